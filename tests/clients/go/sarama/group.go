package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"clients/rig"

	"github.com/IBM/sarama"
)

// fetched is how many records of a partition wait to be read, and so how many are read between two commits.
const fetched = 10_000

// member reads a topic as a member of a group, and commits what it has read, until its stdin closes.
func member(ctx context.Context, config *sarama.Config, bootstrap, topic, name, instance string, input io.Reader) error {
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.InstanceId = instance
	config.Consumer.Group.Session.Timeout = 45 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.ChannelBufferSize = fetched
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, name, config)
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			fail(err)
		}
	}()
	asked := rig.UntilClosed(ctx, input)
	reading := &reading{topic: topic, found: rig.Partitions{}}
	for asked.Err() == nil {
		// A rebalance ends it, and it joins again.
		if err := group.Consume(asked, []string{topic}, reading); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := group.Close(); err != nil {
		return err
	}
	reading.found.Print()
	return nil
}

// reading is all that the member reads, one generation after the other.
type reading struct {
	topic string
	owned rig.Owned

	lock  sync.Mutex
	found rig.Partitions
	read  int64
}

func (r *reading) Setup(session sarama.ConsumerGroupSession) error {
	r.owned.Change(session.Claims()[r.topic], true)
	return nil
}

func (r *reading) Cleanup(session sarama.ConsumerGroupSession) error {
	r.owned.Change(session.Claims()[r.topic], false)
	return nil
}

// ConsumeClaim reads one partition, for as long as this generation lasts.
func (r *reading) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case record, more := <-claim.Messages():
			if !more {
				return nil
			}
			if err := r.take(session, record, claim.Messages()); err != nil {
				return err
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// take adds a record and those that are there behind it, and commits them.
func (r *reading) take(session sarama.ConsumerGroupSession, first *sarama.ConsumerMessage, more <-chan *sarama.ConsumerMessage) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	for record := first; record != nil; record = ready(more) {
		if err := r.found.Add(record.Partition, record.Offset, record.Key, record.Value); err != nil {
			return err
		}
		session.MarkMessage(record, "")
		r.read++
	}
	// What goes wrong with it comes out of the group's errors, and ends the rig.
	session.Commit()
	fmt.Printf("read=%d\n", r.read)
	return nil
}

// ready gives the next record if it is there already.
func ready(records <-chan *sarama.ConsumerMessage) *sarama.ConsumerMessage {
	select {
	case record := <-records:
		return record
	default:
		return nil
	}
}
