// kafkajs: `group`. It has no static members, and no protocol but the classic.
'use strict'

const { Kafka, logLevel } = require('kafkajs')
const { Seen, fail, options, within } = require('./rig')

async function group(words) {
  const { bootstrap, topic, group, instance, protocol, timeout } = options(words, 'group')
  if (instance !== undefined) throw new Error('kafkajs has no static members')
  if (protocol !== 'classic') throw new Error(`kafkajs has no protocol '${protocol}'`)
  const found = new Seen()
  let read = 0
  await within(timeout, async () => {
    const kafka = new Kafka({ clientId: 'rig', brokers: [bootstrap], logLevel: logLevel.ERROR })
    const consumer = kafka.consumer({ groupId: group, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      const mine = (payload.memberAssignment[topic] ?? []).slice().sort((a, b) => a - b)
      console.log(`assigned=${mine.join(',')}`)
    })
    // It goes on by itself after an error that it can retry; any other ends it, and the rig with it.
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || fail(payload.error))
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          const offset = Number(message.offset)
          found.offsets(batch.partition, offset, offset)
          found.line(batch.partition, message)
          read += 1
        }
        const offset = (BigInt(batch.lastOffset()) + 1n).toString()
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset }])
        console.log(`read=${read}`)
      },
    })
    process.stdin.resume()
    await new Promise((resolve) => process.stdin.on('end', resolve))
    await consumer.disconnect()
  })
  found.print()
}

module.exports = { group }
