"""What the Python rigs share: their command line, what passed of a partition, what a member owns, and the round of an admin."""

import argparse
import hashlib
import sys
import threading
import time

# The round of an admin; what it must print is known to `xtask/src/administration.rs`.
CREATED = {"retention.ms": "3600000"}
ALTERED = {"segment.bytes": "2097152"}
PARTITIONS, MORE_PARTITIONS = 2, 4
LOOK_EVERY = 0.02


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


class Owned:
    """What a member has to read, told at every turn of a rebalance: one that changes nothing is to be seen, too."""

    def __init__(self):
        self.partitions = set()

    def gain(self, partitions):
        self.partitions.update(partition.partition for partition in partitions)
        self.tell()

    def lose(self, partitions):
        self.partitions.difference_update(partition.partition for partition in partitions)
        self.tell()

    def tell(self):
        print(f"assigned={','.join(map(str, sorted(self.partitions)))}", flush=True)


class Deadline:
    def __init__(self, seconds):
        self.seconds, self.at = seconds, time.monotonic() + seconds

    def check(self, what):
        if time.monotonic() > self.at:
            raise TimeoutError(f"{what} after {self.seconds} s")


def lines():
    """Key and value of each line of stdin."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        key, tab, value = line.removesuffix(b"\n").partition(b"\t")
        if not tab:
            raise ValueError(f"line {number} has no tab")
        yield key, value


def asked_to_leave():
    """An event that is set once stdin closes."""
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), leave.set()), daemon=True).start()
    return leave


def chosen(options, known):
    """The partitions asked for, of those that the topic has."""
    found = sorted(number for number in known if options.partition in ("all", str(number)))
    if not found:
        raise ValueError(f"topic {options.topic} has no partition {options.partition}")
    return found


def bounded(options, starts, ends):
    """Where to start and where to stop, by partition, from what is there."""
    if options.start != "earliest":
        starts = dict.fromkeys(starts, int(options.start))
    if options.until != "end":
        ends = dict.fromkeys(ends, int(options.until))
    return starts, ends


def admin_round(admin, options):
    """Each step, and what the broker says of the topic after it. `admin` is the library's own, with these methods: `create`, `alter`
    (None where it has no incremental one), `config`, `topics` (partitions by name), `grow`, `delete`."""
    deadline, topic = Deadline(options.timeout), options.topic

    def tell(step, partitions, config):
        while True:
            count = admin.topics().get(topic, 0)
            found = admin.config(topic) if config and count else {}
            found = {name: found[name] for name in sorted(config) if name in found}
            if count == partitions and found == config:
                break
            # Apache Kafka answers before its own metadata shows a change.
            deadline.check(f"{step}: {topic} has {count} partitions and {found}")
            time.sleep(LOOK_EVERY)
        print(" ".join([f"{step} partitions={count}", *(f"{name}={value}" for name, value in found.items())]), flush=True)

    admin.create(topic, PARTITIONS, CREATED)
    tell("created", PARTITIONS, CREATED)
    if admin.alter:
        admin.alter(topic, ALTERED)
        tell("altered", PARTITIONS, {**CREATED, **ALTERED})
    admin.grow(topic, MORE_PARTITIONS)
    tell("grown", MORE_PARTITIONS, {})
    admin.delete(topic)
    tell("deleted", 0, {})


def run(library, commands):
    """Runs the command that was asked for. The rig's contract: the reason in one line, and exit code 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=list(commands))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group")
    parser.add_argument("--instance", help="makes a static member of that name")
    parser.add_argument("--protocol", default="classic", choices=["classic", "consumer"])
    parser.add_argument("--partition", default="all")
    parser.add_argument("--from", dest="start", default="earliest")
    parser.add_argument("--until", default="end")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"])
    parser.add_argument("--timeout", default="300s", type=lambda text: int(text.removesuffix("s")))
    options = parser.parse_args()
    try:
        commands[options.command](options)
    except Exception as error:
        sys.exit(f"{library}: {type(error).__name__}: {error}")
