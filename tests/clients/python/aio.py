"""aiokafka against a broker, as tests/clients/README.md says."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

import rig

WAITING = 50_000


async def read(options):
    deadline = rig.Deadline(options.timeout)
    # It learns the partitions of a topic that it is started with, and of no other.
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",  # A reset would skip or repeat records in silence.
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    chosen = [TopicPartition(options.topic, number) for number in rig.chosen(options, consumer.partitions_for_topic(options.topic) or [])]
    starts, ends = rig.bounded(options, await consumer.beginning_offsets(chosen), await consumer.end_offsets(chosen))
    found = {partition.partition: rig.Seen() for partition in chosen}
    left = [partition for partition in chosen if starts[partition] < ends[partition]]
    consumer.unsubscribe()
    consumer.assign(left)
    for partition in left:
        consumer.seek(partition, starts[partition])
    while left:
        deadline.check(f"not at the end of {left}")
        for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
            seen = found[partition.partition]
            for record in records:
                if record.offset < ends[partition]:
                    seen.add(record.partition, record.offset, record.key, record.value)
        left = [partition for partition in left if await consumer.position(partition) < ends[partition]]
    await consumer.stop()
    rig.show(found)


async def write(options):
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=None if options.compression == "none" else options.compression,
        linger_ms=20,
        max_batch_size=64 << 10,
    )
    await producer.start()
    found, waiting = {}, []

    async def settle():
        for key, value, future in waiting:
            metadata = await asyncio.wait_for(future, options.timeout)
            found.setdefault(metadata.partition, rig.Seen()).add(metadata.partition, metadata.offset, key, value)
        waiting.clear()

    for key, value in rig.lines():
        waiting.append((key, value, await producer.send(options.topic, value, key)))
        if len(waiting) == WAITING:
            await settle()
    await producer.flush()
    await settle()
    await producer.stop()
    rig.show(found)


class Told(ConsumerRebalanceListener):
    def __init__(self, owned):
        self.owned = owned

    def on_partitions_assigned(self, assigned):
        self.owned.gain(assigned)

    def on_partitions_revoked(self, revoked):
        self.owned.lose(revoked)


async def group(options):
    if options.protocol != "classic":
        raise ValueError(f"aiokafka has no protocol '{options.protocol}'")
    deadline = rig.Deadline(options.timeout)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        group_instance_id=options.instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=500,
    )
    consumer.subscribe([options.topic], listener=Told(rig.Owned()))
    await consumer.start()
    leave = rig.asked_to_leave()
    found, read = {}, 0
    while not leave.is_set():
        deadline.check("not asked to leave")
        polled = await consumer.getmany(timeout_ms=200)
        for partition, records in polled.items():
            seen = found.setdefault(partition.partition, rig.Seen())
            for record in records:
                seen.add(record.partition, record.offset, record.key, record.value)
            read += len(records)
        if polled:
            await consumer.commit()
            print(f"read={read}", flush=True)
    await consumer.stop()
    rig.show(found)


class Admin:
    # It has AlterConfigs alone, which sets all that it is not given back to the default.
    alter = None

    def __init__(self, client, wait):
        self.client, self.wait = client, wait

    def create(self, topic, partitions, config):
        new = NewTopic(topic, partitions, replication_factor=1, topic_configs=config)
        for _, code, message in self.wait(self.client.create_topics([new])).topic_errors:
            self.check(code, message)

    def config(self, topic):
        [answer] = self.wait(self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        [(code, message, _, _, entries)] = answer.resources
        self.check(code, message)
        return {name: value for name, value, *_ in entries}

    def topics(self):
        return {topic["topic"]: len(topic["partitions"]) for topic in self.wait(self.client.describe_topics())}

    def grow(self, topic, partitions):
        self.wait(self.client.create_partitions({topic: NewPartitions(partitions)}))

    def delete(self, topic):
        for _, code in self.wait(self.client.delete_topics([topic])).topic_error_codes:
            self.check(code, "not deleted")

    def check(self, code, message):
        """It leaves errors of one topic to its caller."""
        if code:
            raise for_code(code)(message)


async def admin(options):
    client = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap)
    await client.start()
    loop = asyncio.get_running_loop()
    # The round is the other libraries' too, and they block.
    wait = lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(options.timeout)
    await asyncio.to_thread(rig.admin_round, Admin(client, wait), options)
    await client.close()


if __name__ == "__main__":
    commands = {"read": read, "write": write, "group": group, "admin": admin}
    rig.run("aiokafka", {name: lambda options, run=run: asyncio.run(run(options)) for name, run in commands.items()})
