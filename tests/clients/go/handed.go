package main

import (
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// handed is what a member was handed of its partitions and has not written down yet. Each time that a partition becomes its own
// it is another reader in the history: where the partition was meanwhile is no matter of its.
type handed struct {
	topic, name string
	history     *history

	lock  sync.Mutex
	turns map[int32]int
	runs  map[int32]run
}

func (h *handed) take(record *kgo.Record) {
	h.lock.Lock()
	defer h.lock.Unlock()
	producer, number, err := identify(record.Partition, record.Value)
	if err != nil {
		h.end(record.Partition)
		place := place{h.topic, record.Partition}
		h.history.write(event{Event: "foreign", Partition: place, Reader: h.reader(record.Partition), Offset: &record.Offset, What: err.Error()})
		return
	}
	current := h.runs[record.Partition]
	ended, ok := current.add(producer, number, record.Offset)
	h.runs[record.Partition] = current
	if ok {
		h.write(record.Partition, ended)
	}
}

func (h *handed) reader(partition int32) string {
	return fmt.Sprintf("%s turn %d", h.name, h.turns[partition])
}

func (h *handed) write(partition int32, ended run) {
	if ended.Count > 0 {
		place := place{h.topic, partition}
		h.history.write(event{Event: "read", Partition: place, Reader: h.reader(partition), Records: &ended.records, Offset: &ended.offset, Source: "broker"})
	}
}

func (h *handed) end(partition int32) {
	h.write(partition, h.runs[partition])
	delete(h.runs, partition)
}

// begin: these partitions are its own from now on.
func (h *handed) begin(partitions []int32) {
	h.lock.Lock()
	defer h.lock.Unlock()
	for _, partition := range partitions {
		h.end(partition)
		h.turns[partition]++
	}
}

func (h *handed) close() error {
	h.lock.Lock()
	defer h.lock.Unlock()
	for partition := range h.runs {
		h.end(partition)
	}
	return h.history.close()
}
