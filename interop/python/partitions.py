"""Prints the partitions that librdkafka's partitioners choose, from the library in confluent-kafka's wheel.

    python3 partitions.py keys              the keys and partition counts, one pair a line: KEY-IN-HEX<tab>COUNT
    python3 partitions.py keys | python3 partitions.py librdkafka
                                            PARTITIONER<tab>KEY<tab>COUNT<tab>PARTITION for each
"""

import ctypes
import glob
import os
import random
import sys

import confluent_kafka


def keys():
    chosen = random.Random(794)
    values = [b"", b"a", b"ab", b"abc", b"abcd", b"21", b"foobar", b"\x80", b"\xff" * 4, b"\x00" * 5]
    values += [str(number).encode() for number in range(40)]
    values += [bytes(chosen.randrange(256) for _ in range(length)) for length in list(range(1, 33)) + [64, 100]]
    # FNV-1a hashes of these two are 0x80000000 and 0xffffffff: the sign rules differ there.
    values += [key_hashing_to("80000000"), key_hashing_to("ffffffff")]
    counts = [1, 2, 3, 5, 12, 64, 1000, 2**31 - 1]
    for place, value in enumerate(values):
        for count in (counts[place % len(counts)], counts[(place + 3) % len(counts)], 7):
            print(f"{value.hex()}\t{count}")


def key_hashing_to(hash_in_hex):
    """A key of five bytes with this 32-bit FNV-1a hash, met in the middle: two bytes forwards, two backwards."""
    wanted, prime = int(hash_in_hex, 16), 0x01000193
    inverse = pow(prime, -1, 2**32)
    ends = {}
    for last in range(256):
        before = (wanted * inverse % 2**32) ^ last
        for fourth in range(256):
            ends[(before * inverse % 2**32) ^ fourth] = bytes([fourth, last])
    for start in range(2**24):
        state = 0x811C9DC5
        head = start.to_bytes(3, "big")
        for byte in head:
            state = (state ^ byte) * prime % 2**32
        if state in ends:
            return head + ends[state]
    raise AssertionError("no key of five bytes has this hash")


def library():
    beside = os.path.join(os.path.dirname(confluent_kafka.__file__), "..", "confluent_kafka.libs", "librdkafka*.so*")
    return ctypes.CDLL(glob.glob(beside)[0])


def librdkafka():
    library_of_c = library()
    functions = {}
    for name in ("consistent", "murmur2", "fnv1a"):
        function = getattr(library_of_c, f"rd_kafka_msg_partitioner_{name}")
        function.restype = ctypes.c_int32
        function.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p,
        ]
        functions[name] = function
    pairs = [line.rstrip("\n").split("\t") for line in sys.stdin]
    for name, function in functions.items():
        for key, count in pairs:
            value = bytes.fromhex(key)
            print(f"{name}\t{key}\t{count}\t{function(None, value, len(value), int(count), None, None)}")


if __name__ == "__main__":
    {"keys": keys, "librdkafka": librdkafka}[sys.argv[1]]()
