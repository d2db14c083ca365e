// Franz-go against a broker, as tests/clients/README.md says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"clients/rig"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: clients read|write|group|admin|soak|watch|crowd --bootstrap H:P --topic T ..."))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "", "host:port")
	topic := flags.String("topic", "", "topic")
	timeout := flags.Duration("timeout", 5*time.Minute, "deadline for all of it")
	partition := flags.String("partition", "all", "read: all, or one")
	from := flags.String("from", "earliest", "read: earliest, or an offset; watch: earliest or latest")
	until := flags.String("until", "end", "read: end as of now, or the offset to stop before")
	flags.BoolVar(&rig.Hashing, "hash", true, "read: false leaves the SHA-256 out, for speed")
	codec := flags.String("compression", "none", "write: none, gzip, snappy, lz4 or zstd")
	records := flags.Int64("records", 0, "soak: how many; 0: until stdin closes")
	rate := flags.Int64("rate", 0, "soak, group: records a second; 0: as fast as it goes")
	valueBytes := flags.Int("value-bytes", 512, "soak: padding of a value")
	producer := flags.Int64("producer", 1, "soak: which one it is in the history")
	keys := flags.Uint64("keys", 0, "soak: keys of a partition that records are updates of, a multiple of ten; 0: one key for all")
	tombstoneOneIn := flags.Uint64("tombstone-one-in", 8, "soak: with keys, one update in so many takes its key away")
	sinceMs := flags.Int64("since-ms", 0, "soak: the first record's time, in ms since 1970; 0: records have the time they are sent at")
	step := flags.Duration("step", 0, "soak: with since-ms, how much later each further record is")
	drain := flags.Duration("drain", time.Minute, "soak: how long the last records may take to be answered")
	groupName := flags.String("group", "", "group: its name")
	instance := flags.String("instance", "", "group: makes a static member of that name")
	protocol := flags.String("protocol", "classic", "group, crowd: classic or consumer")
	members := flags.Int("members", 50, "crowd: how many at most")
	between := flags.Duration("between", time.Second, "crowd: between two that come or go, on average")
	seed := flags.Int64("seed", 1, "crowd: who comes and goes when; soak: which keys are updated")
	reader := flags.String("reader", "watch", "watch, group: its name in the history")
	written := flags.String("history", "", "soak, watch, crowd, group: the file for what was sent, told and read")
	flags.Parse(os.Args[2:])
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if os.Args[1] == "crowd" {
		run := &crowd{
			bootstrap: *bootstrap, topic: *topic, group: *groupName, consumerProtocol: *protocol == "consumer",
			members: *members, between: *between,
		}
		fail(run.run(ctx, *written, *seed, os.Stdin))
		return
	}
	history, err := openHistory(*written)
	if err != nil {
		fail(err)
	}
	switch os.Args[1] {
	case "read":
		fail(read(ctx, *bootstrap, *topic, *partition, *from, *until))
	case "write":
		fail(write(ctx, *bootstrap, *topic, *codec, os.Stdin))
	case "group":
		one := member{bootstrap: *bootstrap, topic: *topic, group: *groupName, instance: *instance, protocol: *protocol,
			name: *reader, recordsPerSec: *rate, history: history}
		fail(one.run(ctx, os.Stdin))
	case "admin":
		fail(admin(ctx, *bootstrap, *topic))
	case "soak":
		run := &soaking{
			topic: *topic, producer: *producer, recordsMax: *records, recordsPerSec: *rate, valueBytes: *valueBytes,
			drain: *drain, history: history, updates: updates{*keys, uint64(*seed), *tombstoneOneIn}, step: *step,
		}
		if *sinceMs > 0 {
			run.since = time.UnixMilli(*sinceMs)
		}
		if *keys%10 != 0 || *tombstoneOneIn == 0 {
			fail(errors.New("keys come in tens, and tombstones one in some"))
		}
		fail(run.soak(ctx, *bootstrap, os.Stdin))
	case "watch":
		run := &watching{bootstrap: *bootstrap, topic: *topic, name: *reader, earliest: *from == "earliest", history: history}
		fail(run.watch(ctx, os.Stdin))
	default:
		fail(fmt.Errorf("no such command: %s", os.Args[1]))
	}
}

func fail(err error) {
	rig.Fail("franz-go", err)
}

func read(ctx context.Context, bootstrap, topic, partition, from, until string) error {
	starts, ends, err := bounds(ctx, bootstrap, topic, partition, from, until)
	if err != nil {
		return err
	}
	found := rig.Partitions{}
	assigned, left := map[int32]kgo.Offset{}, map[int32]bool{}
	for partition, end := range ends {
		found.Of(partition)
		if starts[partition] < end {
			assigned[partition], left[partition] = kgo.NewOffset().At(starts[partition]), true
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: assigned}),
		// A reset would skip or repeat records in silence.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxPartitionBytes(8<<20),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		for _, problem := range fetches.Errors() {
			return fmt.Errorf("partition %d: %w", problem.Partition, problem.Err)
		}
		iterator := fetches.RecordIter()
		for !iterator.Done() {
			record := iterator.Next()
			if record.Offset >= ends[record.Partition] {
				continue
			}
			if err := found.Add(record.Partition, record.Offset, record.Key, record.Value); err != nil {
				return err
			}
			if record.Offset+1 == ends[record.Partition] {
				delete(left, record.Partition)
			}
		}
	}
	found.Print()
	return nil
}

// bounds finds where to start and to stop in each partition asked for.
func bounds(ctx context.Context, bootstrap, topic, partition, from, until string) (map[int32]int64, map[int32]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	first, err := listed(admin.ListStartOffsets(ctx, topic))
	if err != nil {
		return nil, nil, err
	}
	last, err := listed(admin.ListEndOffsets(ctx, topic))
	if err != nil {
		return nil, nil, err
	}
	starts, ends := map[int32]int64{}, map[int32]int64{}
	for number := range last {
		if partition != "all" && partition != strconv.Itoa(int(number)) {
			continue
		}
		starts[number], ends[number] = first[number], last[number]
		if from != "earliest" {
			if starts[number], err = strconv.ParseInt(from, 10, 64); err != nil {
				return nil, nil, err
			}
		}
		if until != "end" {
			if ends[number], err = strconv.ParseInt(until, 10, 64); err != nil {
				return nil, nil, err
			}
		}
	}
	if len(ends) == 0 {
		return nil, nil, fmt.Errorf("topic %s has no partition %s", topic, partition)
	}
	return starts, ends, nil
}

func listed(offsets kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = offsets.Error()
	}
	found := map[int32]int64{}
	offsets.Each(func(offset kadm.ListedOffset) { found[offset.Partition] = offset.Offset })
	return found, err
}

// write produces `key TAB value` lines with the default partitioner, idempotence and acks=all.
func write(ctx context.Context, bootstrap, topic, codec string, input io.Reader) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	chosen, known := codecs[codec]
	if !known {
		return fmt.Errorf("no such compression: %s", codec)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(chosen),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var lock sync.Mutex
	var failure error
	found := rig.Partitions{}
	err = rig.Lines(input, func(key, value []byte) {
		client.Produce(ctx, &kgo.Record{Key: key, Value: value}, func(record *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err == nil {
				err = found.Add(record.Partition, record.Offset, record.Key, record.Value)
			}
			if failure == nil {
				failure = err
			}
		})
	})
	if err != nil {
		return err
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	if failure != nil {
		return failure
	}
	found.Print()
	return nil
}
