// kafkajs against a broker: `write`, as tests/clients/README.md says. (It cannot assign partitions by hand, so no `read`.)
'use strict'

const { createHash } = require('node:crypto')
const { CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')

const BATCH_RECORDS = 5000

function options(words) {
  const known = { bootstrap: undefined, topic: undefined, compression: 'none', timeout: '300s' }
  for (let at = 0; at < words.length; at += 2) {
    const name = words[at].replace(/^--/, '')
    if (!(name in known) || words[at + 1] === undefined) throw new Error(`bad option: ${words[at]}`)
    known[name] = words[at + 1]
  }
  if (!known.bootstrap || !known.topic) throw new Error('--bootstrap and --topic are needed')
  const codec = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[known.compression]
  if (codec === undefined) throw new Error(`kafkajs alone cannot compress with ${known.compression}`)
  return { ...known, codec }
}

async function* batches(input) {
  let rest = Buffer.alloc(0)
  let batch = []
  for await (const piece of input) {
    rest = rest.length ? Buffer.concat([rest, piece]) : piece
    let from = 0
    for (let end = rest.indexOf(10, from); end >= 0; end = rest.indexOf(10, from)) {
      const line = rest.subarray(from, end)
      const tab = line.indexOf(9)
      if (tab < 0) throw new Error('a line has no tab')
      batch.push({ key: line.subarray(0, tab), value: line.subarray(tab + 1) })
      from = end + 1
      if (batch.length === BATCH_RECORDS) {
        yield batch
        batch = []
      }
    }
    rest = rest.subarray(from)
  }
  if (rest.length) throw new Error('the last line has no end')
  if (batch.length) yield batch
}

async function main() {
  const { bootstrap, topic, codec, timeout } = options(process.argv.slice(2))
  const deadline = setTimeout(() => fail(new Error(`not done after ${timeout}`)), Number.parseInt(timeout, 10) * 1000)
  const found = new Map()
  const of = (partition) => {
    if (!found.has(partition)) found.set(partition, { count: 0, first: -1, last: -1, lines: createHash('sha256') })
    return found.get(partition)
  }
  // The library's own choice, overheard: it tells the partition of a record to nobody else.
  const overheard = () => {
    const choose = Partitioners.DefaultPartitioner()
    return (choice) => {
      const partition = choose(choice)
      const { key, value } = choice.message
      const seen = of(partition)
      seen.count += 1
      seen.lines.update(key).update('\t').update(value).update('\n')
      return partition
    }
  }
  const kafka = new Kafka({ clientId: 'rig', brokers: [bootstrap], logLevel: logLevel.ERROR })
  const producer = kafka.producer({ createPartitioner: overheard, allowAutoTopicCreation: false })
  await producer.connect()
  for await (const messages of batches(process.stdin)) {
    const before = new Map([...found].map(([partition, seen]) => [partition, seen.count]))
    const answers = await producer.send({ topic, messages, acks: -1, compression: codec })
    for (const { partition, errorCode, baseOffset } of answers) {
      const seen = of(partition)
      const base = Number(baseOffset)
      if (errorCode !== 0) throw new Error(`partition ${partition}: error ${errorCode}`)
      if (base <= seen.last) throw new Error(`partition ${partition}: offset ${base} came after ${seen.last}`)
      if (seen.first < 0) seen.first = base
      seen.last = base + seen.count - (before.get(partition) ?? 0) - 1
    }
  }
  await producer.disconnect()
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
