package main

import (
	"context"

	"clients/rig"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func admin(ctx context.Context, bootstrap, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return err
	}
	defer client.Close()
	return rig.Round(ctx, administrator{ctx, kadm.NewClient(client)}, topic)
}

// administrator is kadm as the round wants it.
type administrator struct {
	ctx    context.Context
	client *kadm.Client
}

func (a administrator) Create(topic string, partitions int32, config map[string]string) error {
	configs := map[string]*string{}
	for name, value := range config {
		configs[name] = kadm.StringPtr(value)
	}
	_, err := a.client.CreateTopic(a.ctx, partitions, 1, configs, topic)
	return err
}

func (a administrator) Alter(topic string, config map[string]string) error {
	changes := []kadm.AlterConfig{}
	for name, value := range config {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: kadm.StringPtr(value)})
	}
	answers, err := a.client.AlterTopicConfigs(a.ctx, changes, topic)
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	if err != nil {
		return err
	}
	return answer.Err
}

func (a administrator) Config(topic string) (map[string]string, error) {
	described, err := a.client.DescribeTopicConfigs(a.ctx, topic)
	if err != nil {
		return nil, err
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, entry := range resource.Configs {
		found[entry.Key] = entry.MaybeValue()
	}
	return found, resource.Err
}

func (a administrator) Topics() (map[string]int, error) {
	listed, err := a.client.ListTopics(a.ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for name, topic := range listed {
		found[name] = len(topic.Partitions)
	}
	return found, nil
}

func (a administrator) Grow(topic string, partitions int32) error {
	answers, err := a.client.UpdatePartitions(a.ctx, int(partitions), topic)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (a administrator) Delete(topic string) error {
	_, err := a.client.DeleteTopic(a.ctx, topic)
	return err
}
