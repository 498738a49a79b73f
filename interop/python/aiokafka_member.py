"""aiokafka as a member of a group until it is told to leave: interop/src/member.rs."""

import asyncio
import sys

import journal
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

brokers, group, topic, protocols, session, heartbeat, instance = sys.argv[1:]
ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


class Listener(ConsumerRebalanceListener):
    """Called from another task: partitions are not given up between a batch and its commit."""

    def __init__(self):
        self.lock = asyncio.Lock()
        self.owns = False

    async def on_partitions_revoked(self, revoked):
        async with self.lock:
            self.owns = False
            if revoked:
                journal.partitions("revoked", [p.partition for p in revoked])

    async def on_partitions_assigned(self, assigned):
        self.owns = True
        journal.partitions("assigned", [p.partition for p in assigned])


async def finish(consumer, batches):
    for partition, records in batches.items():
        journal.show("".join(journal.record(partition.partition, r.offset, r.value) for r in records))
    ends = {partition: records[-1].offset + 1 for partition, records in batches.items()}
    try:
        await consumer.commit(ends)
    except KafkaError as error:
        journal.say("error", error)
        return
    for partition, end in ends.items():
        journal.say("committed", partition.partition, end)


async def main():
    journal.listen()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers.split(","),
        group_id=group,
        group_instance_id=None if instance == "-" else instance,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        session_timeout_ms=int(session),
        heartbeat_interval_ms=int(heartbeat),
        partition_assignment_strategy=[ASSIGNORS[name] for name in protocols.split(",")],
    )
    listener = Listener()
    consumer.subscribe([topic], listener=listener)
    journal.say("started")
    await consumer.start()
    while not journal.told.is_set():
        # Not under the lock: this waits until a rebalance is over.
        batches = await consumer.getmany(timeout_ms=100, max_records=500)
        async with listener.lock:
            if batches and listener.owns:
                await finish(consumer, batches)
    await consumer.stop()
    journal.say("closed")


asyncio.run(main())
