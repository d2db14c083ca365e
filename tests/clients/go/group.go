package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"clients/rig"

	"github.com/twmb/franz-go/pkg/kgo"
)

// member is one of a group.
type member struct {
	bootstrap, topic, group string
	// Makes it a static one.
	instance string
	protocol string
	// It reads no faster than this, if it is not 0.
	recordsPerSec int64
	// Takes what it was handed, if there is one: records are numbered then.
	history *history
	name    string
}

// run reads a topic as a member of a group, and commits what it has read, until its stdin closes.
func (m member) run(ctx context.Context, input io.Reader) error {
	mine := &rig.Owned{}
	handed := &handed{topic: m.topic, name: m.name, history: m.history, turns: map[int32]int{}, runs: map[int32]run{}}
	options := []kgo.Opt{
		kgo.SeedBrokers(m.bootstrap), kgo.ConsumerGroup(m.group), kgo.ConsumeTopics(m.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, now map[string][]int32) {
			handed.begin(now[m.topic])
			mine.Change(now[m.topic], true)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { mine.Change(gone[m.topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { mine.Change(gone[m.topic], false) }),
	}
	if m.instance != "" {
		options = append(options, kgo.InstanceID(m.instance))
	}
	switch m.protocol {
	case "classic":
	case "consumer":
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer()))
	default:
		return fmt.Errorf("no such protocol: %s", m.protocol)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	asked := rig.UntilClosed(ctx, input)
	found, read := rig.Partitions{}, int64(0)
	pollMax := -1
	if m.recordsPerSec > 0 {
		// Ten polls a second, at least.
		pollMax = int(max(m.recordsPerSec/10, 1))
	}
	for asked.Err() == nil {
		fetches := client.PollRecords(asked, pollMax)
		for _, problem := range fetches.Errors() {
			if asked.Err() == nil {
				return fmt.Errorf("partition %d: %w", problem.Partition, problem.Err)
			}
		}
		var failure error
		fetches.EachRecord(func(record *kgo.Record) {
			if err := found.Add(record.Partition, record.Offset, record.Key, record.Value); failure == nil {
				failure = err
			}
			if m.history != nil {
				handed.take(record)
			}
			read++
		})
		if failure != nil {
			return failure
		}
		if !fetches.Empty() {
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				return fmt.Errorf("commit: %w", err)
			}
			fmt.Printf("read=%d\n", read)
		}
		client.AllowRebalance()
		if m.recordsPerSec > 0 {
			pause(asked, time.Duration(fetches.NumRecords())*time.Second/time.Duration(m.recordsPerSec))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	client.AllowRebalance()
	// Close leaves, too, but says nothing of what goes wrong with it.
	if err := client.LeaveGroupContext(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	client.Close()
	found.Print()
	return handed.close()
}

func pause(until context.Context, length time.Duration) {
	select {
	case <-until.Done():
	case <-time.After(length):
	}
}
