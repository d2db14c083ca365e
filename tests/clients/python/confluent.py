"""confluent-kafka, and so librdkafka, against a broker, as tests/clients/README.md says."""

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

import rig

SECONDS = 60  # For one answer of the broker.
BATCH = 10_000


def records(messages):
    """Those that are records; an error ends the rig, an end of a partition does not."""
    for message in messages:
        if message.error() is None:
            yield message
        elif message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())


def read(options):
    deadline = rig.Deadline(options.timeout)
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap,
        "group.id": "none",  # It wants one also where it joins none.
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # A reset would skip or repeat records in silence.
        "check.crcs": True,
    })
    known = consumer.list_topics(options.topic, timeout=SECONDS).topics[options.topic].partitions
    chosen = rig.chosen(options, known)
    bounds = {number: consumer.get_watermark_offsets(TopicPartition(options.topic, number), SECONDS) for number in chosen}
    starts, ends = rig.bounded(
        options, {number: start for number, (start, _) in bounds.items()}, {number: end for number, (_, end) in bounds.items()}
    )
    found = {number: rig.Seen() for number in chosen}
    left = [TopicPartition(options.topic, number, starts[number]) for number in chosen if starts[number] < ends[number]]
    consumer.assign(left)
    while left:
        deadline.check(f"not at the end of {left}")
        for message in records(consumer.consume(BATCH, timeout=1)):
            if message.offset() < ends[message.partition()]:
                found[message.partition()].add(message.partition(), message.offset(), message.key(), message.value())
        left = [at for at in consumer.position(left) if at.offset < ends[at.partition]]
    consumer.close()
    rig.show(found)


def write(options):
    producer = Producer({
        "bootstrap.servers": options.bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": options.compression,
        "linger.ms": 20,
        "delivery.timeout.ms": options.timeout * 1000,
    })
    found, failures = {}, []

    def delivered(error, message):
        if error is not None:
            failures.append(error)
            return
        seen = found.setdefault(message.partition(), rig.Seen())
        seen.add(message.partition(), message.offset(), message.key(), message.value())

    for key, value in rig.lines():
        while True:
            try:
                producer.produce(options.topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(1)
        producer.poll(0)
    if producer.flush(options.timeout):
        raise TimeoutError(f"{len(producer)} records are not answered")
    if failures:
        raise KafkaException(failures[0])
    rig.show(found)


def group(options):
    deadline = rig.Deadline(options.timeout)
    settings = {
        "bootstrap.servers": options.bootstrap,
        "group.id": options.group,
        "group.protocol": options.protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    if options.instance:
        settings["group.instance.id"] = options.instance
    if options.protocol == "classic":
        settings["heartbeat.interval.ms"] = 500
    consumer, owned = Consumer(settings), rig.Owned()
    consumer.subscribe(
        [options.topic],
        on_assign=lambda _, partitions: owned.gain(partitions),
        on_revoke=lambda _, partitions: owned.lose(partitions),
        on_lost=lambda _, partitions: owned.lose(partitions),
    )
    leave = rig.asked_to_leave()
    found, read = {}, 0
    while not leave.is_set():
        deadline.check("not asked to leave")
        before = read
        for message in records(consumer.consume(BATCH, timeout=0.2)):
            seen = found.setdefault(message.partition(), rig.Seen())
            seen.add(message.partition(), message.offset(), message.key(), message.value())
            read += 1
        if read > before:
            consumer.commit(asynchronous=False)
            print(f"read={read}", flush=True)
    consumer.close()
    rig.show(found)


class Admin:
    def __init__(self, client):
        self.client = client

    def done(self, futures):
        return [future.result(SECONDS) for future in futures.values()]

    def create(self, topic, partitions, config):
        self.done(self.client.create_topics([NewTopic(topic, partitions, replication_factor=1, config=config)]))

    def alter(self, topic, config):
        settings = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=settings)
        self.done(self.client.incremental_alter_configs([resource]))

    def config(self, topic):
        [described] = self.done(self.client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {name: entry.value for name, entry in described.items()}

    def topics(self):
        return {name: len(topic.partitions) for name, topic in self.client.list_topics(timeout=SECONDS).topics.items()}

    def grow(self, topic, partitions):
        self.done(self.client.create_partitions([NewPartitions(topic, partitions)]))

    def delete(self, topic):
        self.done(self.client.delete_topics([topic]))


def admin(options):
    rig.admin_round(Admin(AdminClient({"bootstrap.servers": options.bootstrap})), options)


if __name__ == "__main__":
    rig.run("confluent-kafka", {"read": read, "write": write, "group": group, "admin": admin})
