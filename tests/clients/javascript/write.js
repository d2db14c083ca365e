// kafkajs: `write`.
'use strict'

const { CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const { Seen, options, within } = require('./rig')

const BATCH_RECORDS = 5000

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

async function write(words) {
  const { bootstrap, topic, compression, timeout } = options(words)
  const codec = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[compression]
  if (codec === undefined) throw new Error(`kafkajs alone cannot compress with ${compression}`)
  const found = new Seen()
  // The library's own choice, overheard: it tells the partition of a record to nobody else.
  const overheard = () => {
    const choose = Partitioners.DefaultPartitioner()
    return (choice) => {
      const partition = choose(choice)
      found.line(partition, choice.message)
      return partition
    }
  }
  await within(timeout, async () => {
    const kafka = new Kafka({ clientId: 'rig', brokers: [bootstrap], logLevel: logLevel.ERROR })
    const producer = kafka.producer({ createPartitioner: overheard, allowAutoTopicCreation: false })
    await producer.connect()
    for await (const messages of batches(process.stdin)) {
      const before = new Map([...found.partitions].map(([partition, seen]) => [partition, seen.count]))
      const answers = await producer.send({ topic, messages, acks: -1, compression: codec })
      for (const { partition, errorCode, baseOffset } of answers) {
        if (errorCode !== 0) throw new Error(`partition ${partition}: error ${errorCode}`)
        const base = Number(baseOffset)
        found.offsets(partition, base, base + found.of(partition).count - (before.get(partition) ?? 0) - 1)
      }
    }
    await producer.disconnect()
  })
  found.print()
}

module.exports = { write }
