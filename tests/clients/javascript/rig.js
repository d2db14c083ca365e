// What the kafkajs rigs share: options, what passed of a partition, and how a rig ends.
'use strict'

const { createHash } = require('node:crypto')

const DEFAULTS = { compression: 'none', timeout: '300s', protocol: 'classic' }
const NEEDED = ['bootstrap', 'topic']

function options(words, ...needed) {
  const known = { ...DEFAULTS }
  for (let at = 0; at < words.length; at += 2) {
    if (!words[at].startsWith('--') || words[at + 1] === undefined) throw new Error(`bad option: ${words[at]}`)
    known[words[at].slice(2)] = words[at + 1]
  }
  for (const name of [...NEEDED, ...needed]) {
    if (!known[name]) throw new Error(`--${name} is needed`)
  }
  return known
}

/** What passed, by partition, in the order of offsets. */
class Seen {
  partitions = new Map()

  of(partition) {
    if (!this.partitions.has(partition)) {
      this.partitions.set(partition, { count: 0, first: -1, last: -1, lines: createHash('sha256') })
    }
    return this.partitions.get(partition)
  }

  line(partition, { key, value }) {
    const seen = this.of(partition)
    seen.count += 1
    seen.lines.update(key).update('\t').update(value).update('\n')
  }

  /** Records from one offset to another, both counted. */
  offsets(partition, from, to) {
    const seen = this.of(partition)
    if (from <= seen.last) throw new Error(`partition ${partition}: offset ${from} came after ${seen.last}`)
    if (seen.first < 0) seen.first = from
    seen.last = to
  }

  print() {
    for (const [partition, { count, first, last, lines }] of [...this.partitions].sort(([a], [b]) => a - b)) {
      console.log(`partition=${partition} count=${count} first=${first} last=${last} sha256=${lines.digest('hex')}`)
    }
  }
}

function fail(error) {
  console.error(`kafkajs: ${error.name}: ${error.message}`)
  process.exit(1)
}

/** Runs it within its time. */
async function within(timeout, main) {
  const deadline = setTimeout(() => fail(new Error(`not done after ${timeout}`)), Number.parseInt(timeout, 10) * 1000)
  await main()
  clearTimeout(deadline)
}

module.exports = { Seen, fail, options, within }
