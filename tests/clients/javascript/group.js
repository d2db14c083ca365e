// kafkajs against a broker: `group`, as tests/clients/README.md says.
'use strict'

const { createHash } = require('node:crypto')
const { Kafka, logLevel } = require('kafkajs')

function options(words) {
  const known = { bootstrap: undefined, topic: undefined, group: undefined, timeout: '300s' }
  for (let at = 0; at < words.length; at += 2) {
    const name = words[at].replace(/^--/, '')
    if (!(name in known) || words[at + 1] === undefined) throw new Error(`bad option: ${words[at]}`)
    known[name] = words[at + 1]
  }
  if (!known.bootstrap || !known.topic || !known.group) throw new Error('--bootstrap, --topic and --group are needed')
  return known
}

async function main() {
  const { bootstrap, topic, group, timeout } = options(process.argv.slice(2))
  const deadline = setTimeout(() => fail(new Error(`not done after ${timeout}`)), Number.parseInt(timeout, 10) * 1000)
  const found = new Map()
  let read = 0
  const add = (partition, { offset, key, value }) => {
    if (!found.has(partition)) found.set(partition, { count: 0, first: -1, last: -1, lines: createHash('sha256') })
    const seen = found.get(partition)
    const at = Number(offset)
    if (at <= seen.last) throw new Error(`partition ${partition}: offset ${at} came after ${seen.last}`)
    if (seen.first < 0) seen.first = at
    seen.count += 1
    seen.last = at
    seen.lines.update(key).update('\t').update(value).update('\n')
    read += 1
  }
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
      for (const message of batch.messages) add(batch.partition, message)
      const offset = (BigInt(batch.lastOffset()) + 1n).toString()
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset }])
      console.log(`read=${read}`)
    },
  })
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.on('end', resolve))
  await consumer.disconnect()
  clearTimeout(deadline)
  for (const [partition, { count, first, last, lines }] of [...found].sort(([a], [b]) => a - b)) {
    console.log(`partition=${partition} count=${count} first=${first} last=${last} sha256=${lines.digest('hex')}`)
  }
}

function fail(error) {
  console.error(`kafkajs: ${error.name}: ${error.message}`)
  process.exit(1)
}

main().catch(fail)
