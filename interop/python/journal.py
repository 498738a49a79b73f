"""Prints what a member of a group sees: interop/src/member.rs."""

import sys
import threading
import time

told = threading.Event()


def line(*words):
    """A line with the time."""
    return "\t".join([str(time.time_ns() // 1000), *map(str, words)]) + "\n"


def show(text):
    """Prints lines at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(*words):
    show(line(*words))


def partitions(what, numbers):
    say(what, ",".join(map(str, sorted(numbers))))


def record(partition, offset, value):
    return line("record", partition, offset, value.decode())


def listen():
    """Sets `told` when the member is told to leave: its standard input ends."""

    def read():
        sys.stdin.read()
        told.set()

    threading.Thread(target=read, daemon=True).start()
