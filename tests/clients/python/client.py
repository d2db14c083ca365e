"""kafka-python against a broker: `read`, `write` and `group`, as tests/clients/README.md says."""

import argparse
import hashlib
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


class Seen:
    """What passed of one partition."""

    def __init__(self):
        self.count, self.first, self.last, self.lines = 0, -1, -1, hashlib.sha256()

    def add(self, partition, offset, key, value):
        if offset <= self.last:
            raise ValueError(f"partition {partition}: offset {offset} came after {self.last}")
        self.first = offset if self.count == 0 else self.first
        self.count, self.last = self.count + 1, offset
        self.lines.update(b"%b\t%b\n" % (key, value))


def show(found):
    for partition, seen in sorted(found.items()):
        print(f"partition={partition} count={seen.count} first={seen.first} last={seen.last} sha256={seen.lines.hexdigest()}")


def read(options):
    deadline = time.monotonic() + options.timeout
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # A reset would skip or repeat records in silence.
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=50 << 20,
        max_poll_records=20_000,
    )
    known = consumer.partitions_for_topic(options.topic)
    if not known:
        raise ValueError(f"no topic {options.topic}")
    chosen = [TopicPartition(options.topic, number) for number in sorted(known) if options.partition in ("all", str(number))]
    if not chosen:
        raise ValueError(f"topic {options.topic} has no partition {options.partition}")
    starts, ends = consumer.beginning_offsets(chosen), consumer.end_offsets(chosen)
    if options.start != "earliest":
        starts = dict.fromkeys(chosen, int(options.start))
    if options.until != "end":
        ends = dict.fromkeys(chosen, int(options.until))
    found = {partition.partition: Seen() for partition in chosen}
    left = [partition for partition in chosen if starts[partition] < ends[partition]]
    consumer.assign(left)
    for partition in left:
        consumer.seek(partition, starts[partition])
    while left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not at the end after {options.timeout} s: {left}")
        for partition, records in consumer.poll(timeout_ms=1000).items():
            seen = found[partition.partition]
            for record in records:
                if record.offset < ends[partition]:
                    seen.add(record.partition, record.offset, record.key, record.value)
        left = [partition for partition in left if consumer.position(partition) < ends[partition]]
    consumer.close()
    show(found)


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
            found.setdefault(metadata.partition, Seen()).add(metadata.partition, metadata.offset, key, value)
        waiting.clear()

    for number, line in enumerate(sys.stdin.buffer, 1):
        key, tab, value = line.removesuffix(b"\n").partition(b"\t")
        if not tab:
            raise ValueError(f"line {number} has no tab")
        waiting.append((key, value, producer.send(options.topic, key=key, value=value)))
        if len(waiting) == 50_000:
            settle()
    producer.flush(timeout=options.timeout)
    settle()
    producer.close()
    show(found)


def group(options):
    deadline = time.monotonic() + options.timeout
    consumer = KafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=500,
    )
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), leave.set()), daemon=True).start()
    found, told, read = {}, None, 0
    while not leave.is_set():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not asked to leave after {options.timeout} s")
        polled = consumer.poll(timeout_ms=200)
        owned = ",".join(str(number) for number in sorted(partition.partition for partition in consumer.assignment()))
        if owned != told:
            told = owned
            print(f"assigned={owned}", flush=True)
        for partition, records in polled.items():
            seen = found.setdefault(partition.partition, Seen())
            for record in records:
                seen.add(record.partition, record.offset, record.key, record.value)
            read += len(records)
        if polled:
            consumer.commit()
            print(f"read={read}", flush=True)
    consumer.close()
    show(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["read", "write", "group"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group")
    parser.add_argument("--partition", default="all")
    parser.add_argument("--from", dest="start", default="earliest")
    parser.add_argument("--until", default="end")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"])
    parser.add_argument("--timeout", default="300s", type=lambda text: int(text.removesuffix("s")))
    options = parser.parse_args()
    {"read": read, "write": write, "group": group}[options.command](options)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # The rig's contract: the reason in one line, and exit code 1.
        sys.exit(f"kafka-python: {type(error).__name__}: {error}")
