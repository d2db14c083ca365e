"""kafka-python against a broker, as tests/clients/README.md says."""

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, KafkaAdminClient

import rig


def read(options):
    deadline = rig.Deadline(options.timeout)
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # A reset would skip or repeat records in silence.
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=50 << 20,
        max_poll_records=20_000,
    )
    chosen = [TopicPartition(options.topic, number) for number in rig.chosen(options, consumer.partitions_for_topic(options.topic) or [])]
    starts, ends = rig.bounded(options, consumer.beginning_offsets(chosen), consumer.end_offsets(chosen))
    found = {partition.partition: rig.Seen() for partition in chosen}
    left = [partition for partition in chosen if starts[partition] < ends[partition]]
    consumer.assign(left)
    for partition in left:
        consumer.seek(partition, starts[partition])
    while left:
        deadline.check(f"not at the end of {left}")
        for partition, records in consumer.poll(timeout_ms=1000).items():
            seen = found[partition.partition]
            for record in records:
                if record.offset < ends[partition]:
                    seen.add(record.partition, record.offset, record.key, record.value)
        left = [partition for partition in left if consumer.position(partition) < ends[partition]]
    consumer.close()
    rig.show(found)


def write(options):
    producer = KafkaProducer(
        bootstrap_servers=options.bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=None if options.compression == "none" else options.compression,
        linger_ms=20,
        batch_size=64 << 10,
        delivery_timeout_ms=options.timeout * 1000,
    )
    found, waiting = {}, []

    def settle():
        for key, value, future in waiting:
            metadata = future.get(timeout=options.timeout)
            found.setdefault(metadata.partition, rig.Seen()).add(metadata.partition, metadata.offset, key, value)
        waiting.clear()

    for key, value in rig.lines():
        waiting.append((key, value, producer.send(options.topic, key=key, value=value)))
        if len(waiting) == 50_000:
            settle()
    producer.flush(timeout=options.timeout)
    settle()
    producer.close()
    rig.show(found)


class Told(ConsumerRebalanceListener):
    def __init__(self, owned):
        self.owned = owned

    def on_partitions_assigned(self, assigned):
        self.owned.gain(assigned)

    def on_partitions_revoked(self, revoked):
        self.owned.lose(revoked)


def group(options):
    if options.protocol != "classic":
        raise ValueError(f"kafka-python has no protocol '{options.protocol}'")
    deadline = rig.Deadline(options.timeout)
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        group_instance_id=options.instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=500,
    )
    consumer.subscribe([options.topic], listener=Told(rig.Owned()))
    leave = rig.asked_to_leave()
    found, read = {}, 0
    while not leave.is_set():
        deadline.check("not asked to leave")
        polled = consumer.poll(timeout_ms=200)
        for partition, records in polled.items():
            seen = found.setdefault(partition.partition, rig.Seen())
            for record in records:
                seen.add(record.partition, record.offset, record.key, record.value)
            read += len(records)
        if polled:
            consumer.commit()
            print(f"read={read}", flush=True)
    consumer.close()
    rig.show(found)


class Admin:
    def __init__(self, client):
        self.client = client

    def create(self, topic, partitions, config):
        self.client.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config}})

    def alter(self, topic, config):
        settings = {name: (AlterConfigOp.SET, value) for name, value in config.items()}
        self.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)], incremental=True)

    def config(self, topic):
        described = self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {name: entry["value"] for name, entry in described["topic"][topic].items()}

    def topics(self):
        return {topic["name"]: len(topic["partitions"]) for topic in self.client.describe_topics()}

    def grow(self, topic, partitions):
        self.client.create_partitions({topic: partitions})

    def delete(self, topic):
        self.client.delete_topics([topic])


def admin(options):
    client = KafkaAdminClient(bootstrap_servers=options.bootstrap)
    rig.admin_round(Admin(client), options)
    client.close()


if __name__ == "__main__":
    rig.run("kafka-python", {"read": read, "write": write, "group": group, "admin": admin})
