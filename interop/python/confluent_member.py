"""confluent-kafka as a member of a group until it is told to leave: interop/src/member.rs."""

import sys

import journal
from confluent_kafka import Consumer, KafkaException, TopicPartition

brokers, group, topic, protocol, session, heartbeat, instance = sys.argv[1:]
settings = {
    "bootstrap.servers": brokers,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 100,
}
if protocol == "consumer":
    settings["group.protocol"] = "consumer"
else:
    settings["partition.assignment.strategy"] = protocol
    settings["session.timeout.ms"] = int(session)
    settings["heartbeat.interval.ms"] = int(heartbeat)
if instance != "-":
    settings["group.instance.id"] = instance


def said(what):
    def say(_, partitions):
        journal.partitions(what, [p.partition for p in partitions])

    return say


def commit(last):
    try:
        offsets = [TopicPartition(topic, partition, offset + 1) for partition, offset in last.items()]
        for committed in consumer.commit(offsets=offsets, asynchronous=False):
            if committed.error:
                journal.say("error", committed.error)
            else:
                journal.say("committed", committed.partition, committed.offset)
    except KafkaException as error:
        journal.say("error", error)


journal.listen()
consumer = Consumer(settings)
consumer.subscribe([topic], on_assign=said("assigned"), on_revoke=said("revoked"), on_lost=said("lost"))
journal.say("started")
while not journal.told.is_set():
    # The callbacks are called in here, and what came before is committed.
    text, last = [], {}
    for message in consumer.consume(500, timeout=0.1):
        if message.error():
            journal.say("error", message.error())
            continue
        text.append(journal.record(message.partition(), message.offset(), message.value()))
        last[message.partition()] = message.offset()
    journal.show("".join(text))
    if last:
        commit(last)
consumer.close()
journal.say("closed")
