package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// owned is what a member has to read, told each time that it changes.
type owned struct {
	lock       sync.Mutex
	partitions map[int32]bool
}

func (o *owned) change(partitions []int32, mine bool) {
	o.lock.Lock()
	defer o.lock.Unlock()
	for _, partition := range partitions {
		if mine {
			o.partitions[partition] = true
		} else {
			delete(o.partitions, partition)
		}
	}
	order := make([]int, 0, len(o.partitions))
	for partition := range o.partitions {
		order = append(order, int(partition))
	}
	sort.Ints(order)
	words := make([]string, len(order))
	for at, partition := range order {
		words[at] = strconv.Itoa(partition)
	}
	fmt.Printf("assigned=%s\n", strings.Join(words, ","))
}

// group reads a topic as a member of a group, and commits what it has read, until its stdin closes.
func group(ctx context.Context, bootstrap, topic, name string, input io.Reader) error {
	mine := &owned{partitions: map[int32]bool{}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(name), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, now map[string][]int32) { mine.change(now[topic], true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { mine.change(gone[topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { mine.change(gone[topic], false) }),
	)
	if err != nil {
		return err
	}
	asked, end := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, input)
		end()
	}()
	found, read := partitions{}, int64(0)
	for asked.Err() == nil {
		fetches := client.PollFetches(asked)
		for _, problem := range fetches.Errors() {
			if asked.Err() == nil {
				return fmt.Errorf("partition %d: %w", problem.Partition, problem.Err)
			}
		}
		var failure error
		fetches.EachRecord(func(record *kgo.Record) {
			if err := found.of(record.Partition).add(record); failure == nil {
				failure = err
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
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	client.CloseAllowingRebalance()
	found.print()
	return nil
}
