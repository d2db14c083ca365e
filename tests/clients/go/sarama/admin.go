package main

import (
	"context"
	"fmt"

	"clients/rig"

	"github.com/IBM/sarama"
)

func admin(ctx context.Context, client sarama.Client, topic string) error {
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return err
	}
	// Closes the client, too.
	defer admin.Close()
	return rig.Round(ctx, administrator{admin}, topic)
}

// administrator is sarama's as the round wants it.
type administrator struct {
	client sarama.ClusterAdmin
}

func (a administrator) Create(topic string, partitions int32, config map[string]string) error {
	entries := map[string]*string{}
	for name, value := range config {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}
	return a.client.CreateTopic(topic, detail, false)
}

func (a administrator) Alter(topic string, config map[string]string) error {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range config {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	return a.client.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (a administrator) Config(topic string) (map[string]string, error) {
	resource := &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}
	answers, err := a.client.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	if len(answers) != 1 {
		return nil, fmt.Errorf("%d answers to one question", len(answers))
	}
	if answers[0].ErrorCode != sarama.ErrNoError {
		return nil, answers[0].ErrorCode
	}
	found := map[string]string{}
	for _, entry := range answers[0].Configs {
		found[entry.Name] = entry.Value
	}
	return found, nil
}

func (a administrator) Topics() (map[string]int, error) {
	listed, err := a.client.ListTopics()
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for name, topic := range listed {
		found[name] = int(topic.NumPartitions)
	}
	return found, nil
}

func (a administrator) Grow(topic string, partitions int32) error {
	return a.client.CreatePartitions(topic, partitions, nil, false)
}

func (a administrator) Delete(topic string) error {
	return a.client.DeleteTopic(topic)
}
