package rig

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What the round of an admin does; what it must print is known to `xtask/src/administration.rs`.
const (
	partitions     = 2
	morePartitions = 4
)

var (
	created = map[string]string{"retention.ms": "3600000"}
	altered = map[string]string{"segment.bytes": "2097152"}
)

// Admin is a library's own.
type Admin interface {
	Create(topic string, partitions int32, config map[string]string) error
	// Alter sets these, and leaves all others as they are.
	Alter(topic string, config map[string]string) error
	Config(topic string) (map[string]string, error)
	// Topics gives the number of partitions of each.
	Topics() (map[string]int, error)
	Grow(topic string, partitions int32) error
	Delete(topic string) error
}

// lookEvery is the time between two looks: Apache Kafka answers before its own metadata shows a change.
const lookEvery = 20 * time.Millisecond

// Round takes each step, and tells what the broker says of the topic after it.
func Round(ctx context.Context, admin Admin, topic string) error {
	if err := admin.Create(topic, partitions, created); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := tell(ctx, admin, topic, "created", partitions, created); err != nil {
		return err
	}
	if err := admin.Alter(topic, altered); err != nil {
		return fmt.Errorf("alter: %w", err)
	}
	both := maps.Clone(created)
	maps.Copy(both, altered)
	if err := tell(ctx, admin, topic, "altered", partitions, both); err != nil {
		return err
	}
	if err := admin.Grow(topic, morePartitions); err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	if err := tell(ctx, admin, topic, "grown", morePartitions, nil); err != nil {
		return err
	}
	if err := admin.Delete(topic); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return tell(ctx, admin, topic, "deleted", 0, nil)
}

// tell waits until the topic is as wanted, and then says how it is.
func tell(ctx context.Context, admin Admin, topic, step string, partitions int, config map[string]string) error {
	for {
		topics, err := admin.Topics()
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		found := map[string]string{}
		if len(config) > 0 && topics[topic] > 0 {
			if found, err = admin.Config(topic); err != nil {
				return fmt.Errorf("describe: %w", err)
			}
			maps.DeleteFunc(found, func(name, _ string) bool { return config[name] == "" })
		}
		if topics[topic] == partitions && maps.Equal(found, config) {
			line := fmt.Sprintf("%s partitions=%d", step, partitions)
			for _, name := range slices.Sorted(maps.Keys(found)) {
				line += fmt.Sprintf(" %s=%s", name, found[name])
			}
			fmt.Println(line)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s has %d partitions and %v", step, topic, topics[topic], found)
		case <-time.After(lookEvery):
		}
	}
}
