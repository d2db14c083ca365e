package main

import (
	"fmt"
	"io"
	"time"

	"clients/rig"

	"github.com/IBM/sarama"
)

// write produces `key TAB value` lines with the default partitioner, idempotence and acks=all.
func write(config *sarama.Config, bootstrap, topic, codec string, input io.Reader) error {
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	chosen, known := codecs[codec]
	if !known {
		return fmt.Errorf("no such compression: %s", codec)
	}
	config.Producer.Compression = chosen
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1 // Idempotence wants it so here.
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	config.Producer.Return.Successes = true
	producer, err := sarama.NewAsyncProducer([]string{bootstrap}, config)
	if err != nil {
		return err
	}
	found := rig.Partitions{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Those of one partition come in the order of its offsets.
		for record := range producer.Successes() {
			fail(found.Add(record.Partition, record.Offset, record.Key.(sarama.ByteEncoder), record.Value.(sarama.ByteEncoder)))
		}
	}()
	go func() {
		for refused := range producer.Errors() {
			fail(refused)
		}
	}()
	err = rig.Lines(input, func(key, value []byte) {
		producer.Input() <- &sarama.ProducerMessage{Topic: topic, Key: sarama.ByteEncoder(key), Value: sarama.ByteEncoder(value)}
	})
	if err != nil {
		return err
	}
	producer.AsyncClose()
	<-done
	found.Print()
	return nil
}
