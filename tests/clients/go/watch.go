package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// watching reads numbered records until stdin closes, through whatever the broker suffers meanwhile: what arrives from now on
// or, from the earliest on, everything, time and again. It judges nothing: what it read and was told goes into its history.
type watching struct {
	bootstrap, topic, name string
	earliest               bool
	history                *history

	seen map[int32]*sight
}

// sight is what a reader has seen of a partition and not written down yet.
type sight struct {
	run               run
	start, mark, told int64
	next              int64
	records           int64
	marked            bool
}

func (w *watching) watch(ctx context.Context, stop io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, stop)
		cancel()
	}()
	var records int64
	var pause time.Duration
	for pass := 1; ; pass++ {
		reader := w.name
		if w.earliest {
			reader = fmt.Sprintf("%s pass %d", w.name, pass)
		}
		read, longest, err := w.pass(ctx, reader)
		records, pause = records+read, max(pause, longest)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			fmt.Printf("records=%d longest_pause_ms=%d passes=%d\n", records, pause.Milliseconds(), pass)
			return w.history.close()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// pass reads until the end as it is at first, or for as long as it may if it began at the end.
func (w *watching) pass(ctx context.Context, reader string) (records int64, pause time.Duration, err error) {
	start, end, err := w.bounds(ctx)
	if ctx.Err() != nil || err != nil {
		return 0, 0, contextual(ctx, err)
	}
	if !w.earliest {
		start = end
	}
	assigned, left := map[int32]kgo.Offset{}, map[int32]bool{}
	w.seen = map[int32]*sight{}
	for partition, from := range start {
		if w.earliest && from == end[partition] {
			continue
		}
		assigned[partition], left[partition] = kgo.NewOffset().At(from), true
		w.seen[partition] = &sight{}
		place := place{w.topic, partition}
		w.history.write(event{Event: "seek", Partition: place, Reader: reader, Offset: &from})
	}
	defer func() {
		for partition, sight := range w.seen {
			w.flush(reader, partition, sight)
		}
	}()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(w.bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.topic: assigned}),
		// A reset would skip or repeat records in silence.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.AlwaysRetryEOF(), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	for since := time.Now(); len(left) > 0; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return records, pause, nil
		}
		var lost error
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			sight := w.seen[fetched.Partition]
			if sight == nil {
				return
			}
			for _, record := range fetched.Records {
				w.record(reader, fetched.Partition, sight, record)
			}
			if len(fetched.Records) > 0 {
				pause = max(pause, time.Since(since))
				since = time.Now()
				records += int64(len(fetched.Records))
			}
			w.marks(reader, fetched, sight)
			if w.earliest && sight.next >= end[fetched.Partition] {
				delete(left, fetched.Partition)
			}
			var dataLoss *kgo.ErrDataLoss
			switch {
			case errors.Is(fetched.Err, kerr.OffsetOutOfRange) || errors.As(fetched.Err, &dataLoss):
				w.flush(reader, fetched.Partition, sight)
				place := place{w.topic, fetched.Partition}
				at := max(sight.next, start[fetched.Partition])
				w.history.write(event{Event: "denied", Partition: place, Reader: reader, Offset: &at})
				delete(left, fetched.Partition)
			case fetched.Err != nil && !errors.Is(fetched.Err, context.Canceled):
				fmt.Fprintf(os.Stderr, "partition %d: %v\n", fetched.Partition, fetched.Err)
				lost = fetched.Err
			}
		})
		if lost != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return records, pause, nil
}

func (w *watching) record(reader string, partition int32, s *sight, record *kgo.Record) {
	s.next = record.Offset + 1
	producer, number, err := identify(partition, record.Value)
	if err != nil {
		w.flush(reader, partition, s)
		place := place{w.topic, partition}
		w.history.write(event{Event: "foreign", Partition: place, Reader: reader, Offset: &record.Offset, What: err.Error()})
		return
	}
	if ended, ok := s.run.add(producer, number, record.Offset); ok {
		w.read(reader, partition, ended)
	}
}

// marks writes down what a fetch said of start and watermark, but for a watermark that only rises.
func (w *watching) marks(reader string, fetched kgo.FetchTopicPartition, s *sight) {
	start, mark := fetched.LogStartOffset, fetched.HighWatermark
	if fetched.Err != nil || mark < 0 || start < 0 {
		return
	}
	if s.marked && start == s.start && mark >= s.mark && mark >= s.next {
		s.mark = mark
		return
	}
	// The mark of before was told before this fetch's records were: written behind them it would seem to have gone back.
	s.mark = max(s.mark, mark)
	w.flush(reader, fetched.Partition, s)
	s.start, s.mark = start, mark
	w.told(reader, fetched.Partition, s)
}

func (w *watching) told(reader string, partition int32, s *sight) {
	place := place{w.topic, partition}
	s.told, s.marked = s.mark, true
	w.history.write(event{Event: "marks", Partition: place, Reader: reader, LogStart: &s.start, Watermark: &s.mark})
}

// flush writes down all that was gathered.
func (w *watching) flush(reader string, partition int32, s *sight) {
	if s.run.Count > 0 {
		w.read(reader, partition, s.run)
		s.run = run{}
	}
	if s.marked && s.told != s.mark {
		w.told(reader, partition, s)
	}
}

func (w *watching) read(reader string, partition int32, run run) {
	place := place{w.topic, partition}
	w.history.write(event{Event: "read", Partition: place, Reader: reader, Records: &run.records, Offset: &run.offset, Source: "broker"})
}

// bounds asks until it is answered: the broker may just be away.
func (w *watching) bounds(ctx context.Context) (start, end map[int32]int64, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.bootstrap))
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for ctx.Err() == nil {
		start, err = listed(admin.ListStartOffsets(ctx, w.topic))
		if err == nil {
			end, err = listed(admin.ListEndOffsets(ctx, w.topic))
		}
		if err == nil && len(end) > 0 {
			return start, end, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, nil, nil
}

// contextual: to be told to end is no error.
func contextual(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
