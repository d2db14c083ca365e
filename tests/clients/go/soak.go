package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// soaking produces numbered records, idempotently and with acks=all, until stdin closes or enough are made, through whatever
// the broker suffers meanwhile. It is the only producer of its topic: record i of a partition must be acknowledged at
// offset i, and nothing else is tolerated. While it runs it says on stderr how many are acknowledged; at the end it prints
// what each partition must hold.
type soaking struct {
	partitions    int32
	recordsMax    int64
	recordsPerSec int64
	valueBytes    int

	lock    sync.Mutex
	found   partitions
	acked   int64
	failure error
}

func soak(ctx context.Context, bootstrap, topic string, s *soaking, stop io.Reader) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(20_000), kgo.ProducerLinger(2*time.Millisecond),
		// A broker that forgot what it acknowledged must not be forgiven by starting over.
		kgo.StopProducerOnDataLossDetected(),
		// A killed broker is back within seconds: ask again soon.
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	details, err := kadm.NewClient(client).ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	s.partitions, s.found = int32(len(details[topic].Partitions)), partitions{}
	if s.partitions == 0 {
		return fmt.Errorf("no topic %s", topic)
	}
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
	if err := client.Flush(ctx); err != nil {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.failure == nil {
		s.found.print()
	}
	return s.failure
}

func (s *soaking) produce(ctx context.Context, client *kgo.Client, stopping <-chan struct{}) error {
	padding := bytes.Repeat([]byte("0123456789abcdef"), s.valueBytes/16+1)[:s.valueBytes]
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
		value := append(strconv.AppendInt(make([]byte, 0, 20+len(padding)), number, 10), padding...)
		index := number / int64(s.partitions)
		record := &kgo.Record{Key: []byte("n"), Value: value, Partition: int32(number % int64(s.partitions))}
		client.Produce(ctx, record, func(record *kgo.Record, err error) { s.settle(record, index, err) })
		s.lock.Lock()
		failure := s.failure
		s.lock.Unlock()
		if failure != nil {
			return failure
		}
	}
	return nil
}

func (s *soaking) settle(record *kgo.Record, index int64, err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if err == nil && record.Offset != index {
		err = fmt.Errorf("partition %d: record %d was acknowledged at offset %d", record.Partition, index, record.Offset)
	}
	if err == nil {
		err = s.found.of(record.Partition).add(record)
	}
	if err == nil {
		s.acked++
	} else if s.failure == nil {
		s.failure = err
	}
}

// report says every so often how far it is, for the rig that decides when to strike.
func (s *soaking) report(ctx context.Context) {
	for ctx.Err() == nil {
		s.lock.Lock()
		acked := s.acked
		s.lock.Unlock()
		fmt.Fprintf(os.Stderr, "acked=%d\n", acked)
		time.Sleep(50 * time.Millisecond)
	}
}

// tail reads what arrives in all partitions from now on until stdin closes, and prints how many records that were and the
// longest pause between two polls that brought some. An error ends it.
func tail(ctx context.Context, bootstrap, topic string, stop io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, stop)
		cancel()
	}()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	last := map[int32]int64{}
	var records int64
	var pause time.Duration
	for since := time.Now(); ; since = time.Now() {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			fmt.Printf("records=%d longest_pause_ms=%d\n", records, pause.Milliseconds())
			return nil
		}
		for _, problem := range fetches.Errors() {
			return fmt.Errorf("partition %d: %w", problem.Partition, problem.Err)
		}
		iterator := fetches.RecordIter()
		for !iterator.Done() {
			record := iterator.Next()
			if before, known := last[record.Partition]; known && record.Offset != before+1 {
				return fmt.Errorf("partition %d: offset %d came after %d", record.Partition, record.Offset, before)
			}
			last[record.Partition] = record.Offset
			records++
		}
		if waited := time.Since(since); records > int64(fetches.NumRecords()) && waited > pause {
			pause = waited
		}
	}
}
