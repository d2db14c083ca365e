package main

import (
	"context"
	"fmt"
	"strconv"

	"clients/rig"

	"github.com/IBM/sarama"
)

// read takes one partition after the other: the library gives each a consumer of its own.
func read(ctx context.Context, client sarama.Client, topic, partition, from, until string) error {
	defer client.Close()
	client.Config().Consumer.Fetch.Default = 8 << 20
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	known, err := consumer.Partitions(topic)
	if err != nil {
		return err
	}
	found := rig.Partitions{}
	for _, number := range known {
		if partition != "all" && partition != strconv.Itoa(int(number)) {
			continue
		}
		start, err := bound(client, topic, number, from, "earliest", sarama.OffsetOldest)
		if err != nil {
			return err
		}
		end, err := bound(client, topic, number, until, "end", sarama.OffsetNewest)
		if err != nil {
			return err
		}
		found.Of(number)
		if start < end {
			if err := readOne(ctx, consumer, topic, number, start, end, found); err != nil {
				return err
			}
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("topic %s has no partition %s", topic, partition)
	}
	found.Print()
	return nil
}

func readOne(ctx context.Context, consumer sarama.Consumer, topic string, number int32, start, end int64, found rig.Partitions) error {
	records, err := consumer.ConsumePartition(topic, number, start)
	if err != nil {
		return err
	}
	defer records.AsyncClose()
	for {
		select {
		case record, more := <-records.Messages():
			if !more {
				return fmt.Errorf("partition %d ended before offset %d", number, end)
			}
			if record.Offset >= end {
				return nil
			}
			if err := found.Add(number, record.Offset, record.Key, record.Value); err != nil {
				return err
			}
			if record.Offset+1 == end {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("partition %d is not at its end %d: %w", number, end, ctx.Err())
		}
	}
}

func bound(client sarama.Client, topic string, number int32, given, own string, special int64) (int64, error) {
	if given != own {
		return strconv.ParseInt(given, 10, 64)
	}
	return client.GetOffset(topic, number, special)
}
