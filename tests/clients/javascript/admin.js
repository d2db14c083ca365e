// kafkajs: `admin`. It has AlterConfigs alone, which sets all that it is not given back to the default: nothing is altered here.
'use strict'

const { ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const { options, within } = require('./rig')

// As in the other rigs, and in `xtask/src/administration.rs`.
const CREATED = [{ name: 'retention.ms', value: '3600000' }]
const PARTITIONS = 2
const MORE_PARTITIONS = 4
const LOOK_EVERY_MS = 20

async function admin(words) {
  const { bootstrap, topic, timeout } = options(words)
  await within(timeout, async () => {
    const kafka = new Kafka({ clientId: 'rig', brokers: [bootstrap], logLevel: logLevel.ERROR })
    const admin = kafka.admin()
    await admin.connect()
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, configEntries: CREATED }] })
    await tell(admin, topic, 'created', PARTITIONS, CREATED)
    await admin.createPartitions({ topicPartitions: [{ topic, count: MORE_PARTITIONS }] })
    await tell(admin, topic, 'grown', MORE_PARTITIONS, [])
    await admin.deleteTopics({ topics: [topic] })
    await tell(admin, topic, 'deleted', 0, [])
    await admin.disconnect()
  })
}

/** Waits until the topic is as wanted, and then says how it is: Apache Kafka answers before its own metadata shows a change. */
async function tell(admin, topic, step, partitions, config) {
  for (;;) {
    const all = await admin.fetchTopicMetadata()
    const count = all.topics.find(({ name }) => name === topic)?.partitions.length ?? 0
    let found = []
    if (count > 0 && config.length > 0) {
      const asked = { type: ConfigResourceTypes.TOPIC, name: topic, configNames: config.map(({ name }) => name) }
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [asked] })
      found = resources[0].configEntries.map(({ configName, configValue }) => `${configName}=${configValue}`)
    }
    if (count === partitions && found.join() === config.map(({ name, value }) => `${name}=${value}`).join()) {
      console.log([`${step} partitions=${count}`, ...found].join(' '))
      return
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}

module.exports = { admin }
