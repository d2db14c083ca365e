package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// soaking produces numbered records, idempotently and with acks=all, until stdin closes or enough are made, through whatever
// the broker suffers meanwhile. It judges nothing: what it sent and was told goes into its history. While it runs it says on
// stderr how many are acknowledged, and `broken` once the broker has told it that its session does not fit.
type soaking struct {
	topic         string
	producer      int64
	partitions    int32
	recordsMax    int64
	recordsPerSec int64
	valueBytes    int
	drain         time.Duration
	history       *history
	// What each record is an update of; without keys, they share one.
	updates updates
	// A record's time: the first one's, and how much later each further one of all partitions is. Zero: when it is sent.
	since time.Time
	step  time.Duration

	lock   sync.Mutex
	sent   []int64
	runs   []run
	acked  int64
	broken bool
}

func (s *soaking) soak(ctx context.Context, bootstrap string, stop io.Reader) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(s.topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(20_000), kgo.ProducerLinger(2*time.Millisecond),
		// A broker that forgot what it acknowledged must not be forgiven by starting over.
		kgo.StopProducerOnDataLossDetected(),
		// A killed broker is back within seconds: ask again soon.
		kgo.MetadataMinAge(50*time.Millisecond), kgo.AlwaysRetryEOF(), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	details, err := kadm.NewClient(client).ListTopics(ctx, s.topic)
	if err != nil {
		return err
	}
	s.partitions = int32(len(details[s.topic].Partitions))
	if s.partitions == 0 {
		return fmt.Errorf("no topic %s", s.topic)
	}
	s.sent, s.runs = make([]int64, s.partitions), make([]run, s.partitions)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping := make(chan struct{})
	go func() {
		io.Copy(io.Discard, stop)
		close(stopping)
	}()
	go s.report(ctx)
	if err := s.produce(ctx, client, stopping); err != nil {
		return err
	}
	draining, drained := context.WithTimeout(ctx, s.drain)
	defer drained()
	if err := client.Flush(draining); err != nil {
		// What is left has no known fate. Whether that is to be expected is for whoever started this to say.
		fmt.Fprintln(os.Stderr, "undrained:", err)
	}
	s.tell()
	s.lock.Lock()
	defer s.lock.Unlock()
	for partition, count := range s.sent {
		place := place{s.topic, int32(partition)}
		s.history.write(event{Event: "sent", Partition: place, Records: &records{s.producer, 0, count}})
		s.ackedRun(place, s.runs[partition])
	}
	return s.history.close()
}

func (s *soaking) produce(ctx context.Context, client *kgo.Client, stopping <-chan struct{}) error {
	start := time.Now()
	for number := int64(0); s.recordsMax == 0 || number < s.recordsMax; number++ {
		select {
		case <-stopping:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if s.recordsPerSec > 0 && number%100 == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(number) * time.Second / time.Duration(s.recordsPerSec))))
		}
		partition, index := int32(number%int64(s.partitions)), number/int64(s.partitions)
		key, gone := s.updates.of(partition, index)
		record := &kgo.Record{Key: []byte(key), Partition: partition}
		if !gone {
			record.Value = numbered(s.producer, partition, index, s.valueBytes)
		}
		if !s.since.IsZero() {
			record.Timestamp = s.since.Add(time.Duration(number) * s.step)
		}
		s.lock.Lock()
		broken := s.broken
		if !broken {
			s.sent[partition]++
		}
		s.lock.Unlock()
		if broken {
			// Nothing can be sent any more. Whoever started this wants to look before it ends.
			<-stopping
			return nil
		}
		client.Produce(ctx, record, func(record *kgo.Record, err error) { s.settle(record, index, err) })
	}
	return nil
}

func (s *soaking) settle(record *kgo.Record, index int64, err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	place := place{s.topic, record.Partition}
	if err != nil {
		s.history.write(event{Event: "unknown", Partition: place, Records: &records{s.producer, index, 1}})
		if !s.broken {
			s.broken = true
			s.history.write(event{Event: "broken", Partition: place, Producer: &s.producer, What: err.Error()})
			fmt.Fprintf(os.Stderr, "record %d of partition %d: %v\n", index, record.Partition, err)
		}
		return
	}
	s.acked++
	if ended, ok := s.runs[record.Partition].add(s.producer, index, record.Offset); ok {
		s.ackedRun(place, ended)
	}
}

func (s *soaking) ackedRun(place place, run run) {
	if run.Count > 0 {
		s.history.write(event{Event: "acked", Partition: place, Records: &run.records, Offset: &run.offset})
	}
}

// report says every so often how far it is, for the rig that decides when to strike.
func (s *soaking) report(ctx context.Context) {
	for ctx.Err() == nil {
		s.tell()
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *soaking) tell() {
	s.lock.Lock()
	defer s.lock.Unlock()
	fmt.Fprintf(os.Stderr, "acked=%d\n", s.acked)
	if s.broken {
		fmt.Fprintln(os.Stderr, "broken")
	}
}
