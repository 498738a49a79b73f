// kafkajs as a member of a group until it is told to leave: interop/src/member.rs. Its only assignor is round robin, and it
// has no callback before partitions are revoked: the member has given them up when it says that it rejoins.
import { writeSync } from 'node:fs'
import { Kafka, logLevel } from 'kafkajs'

const [brokers, groupId, topic, , session, heartbeat] = process.argv.slice(2)
const line = (...words) => `${Math.round((performance.timeOrigin + performance.now()) * 1000)}\t${words.join('\t')}\n`
const print = (text) => {
  for (let bytes = Buffer.from(text); bytes.length > 0; ) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes))
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error
    }
  }
}
const say = (...words) => print(line(...words))

const kafka = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING })
const consumer = kafka.consumer({
  groupId,
  sessionTimeout: Number(session),
  heartbeatInterval: Number(heartbeat),
  rebalanceTimeout: 10000,
  maxWaitTimeInMs: 100,
})

let owned = []
const giveUp = (what) => {
  if (owned.length > 0) say(what, owned.join(','))
  owned = []
}
consumer.on(consumer.events.REBALANCING, () => giveUp('revoked'))
consumer.on(consumer.events.CRASH, ({ payload }) => {
  say('error', payload.error.message)
  giveUp('lost')
})
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  giveUp('revoked')
  owned = [...(payload.memberAssignment[topic] ?? [])].sort((a, b) => a - b)
  say('assigned', owned.join(','))
})

await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
say('started')
await consumer.run({
  autoCommit: false,
  partitionsConsumedConcurrently: 1,
  eachBatchAutoResolve: false,
  eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
    if (!isRunning() || isStale()) return
    print(batch.messages.map((m) => line('record', batch.partition, m.offset, m.value)).join(''))
    const next = BigInt(batch.lastOffset()) + 1n
    await consumer.commitOffsets([{ topic, partition: batch.partition, offset: String(next) }])
    say('committed', batch.partition, next)
    resolveOffset(batch.lastOffset())
    await heartbeat()
  },
})
process.stdin.resume()
process.stdin.on('end', async () => {
  await consumer.disconnect()
  giveUp('revoked')
  say('closed')
  process.exit(0)
})
