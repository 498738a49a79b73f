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
    # librdkafka offers only assignors of one kind: in a list with others, the cooperative one is left out.
    offered = [name for name in protocol.split(",") if name == protocol or name != "cooperative-sticky"]
    settings["partition.assignment.strategy"] = ",".join(offered)
    settings["session.timeout.ms"] = int(session)
    settings["heartbeat.interval.ms"] = int(heartbeat)
if instance != "-":
    settings["group.instance.id"] = instance


# What was read and is not committed yet: a rebalance may keep it from being committed at once.
last = {}


def commit():
    offsets = [TopicPartition(topic, partition, offset + 1) for partition, offset in last.items()]
    try:
        for committed in consumer.commit(offsets=offsets, asynchronous=False) if offsets else []:
            if committed.error:
                journal.say("error", committed.error)
                continue
            del last[committed.partition]
            journal.say("committed", committed.partition, committed.offset)
    except KafkaException as error:
        journal.say("error", error)


def assigned(_, partitions):
    journal.partitions("assigned", [p.partition for p in partitions])


def given_up(what):
    def say(_, partitions):
        if what == "revoked":
            commit()
        for partition in partitions:
            last.pop(partition.partition, None)
        journal.partitions(what, [p.partition for p in partitions])

    return say


journal.listen()
consumer = Consumer(settings)
consumer.subscribe([topic], on_assign=assigned, on_revoke=given_up("revoked"), on_lost=given_up("lost"))
journal.say("started")
while not journal.told.is_set():
    text = []
    for message in consumer.consume(500, timeout=0.1):
        if message.error():
            journal.say("error", message.error())
            continue
        text.append(journal.record(message.partition(), message.offset(), message.value()))
        last[message.partition()] = message.offset()
    journal.show("".join(text))
    commit()
consumer.close()
journal.say("closed")
