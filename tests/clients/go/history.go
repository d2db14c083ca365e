package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// history is what one program sent, was told and read, as JSON lines for the checker (tests/checker/src/event.rs). A nil
// history takes everything and keeps nothing.
type history struct {
	lock    sync.Mutex
	file    *os.File
	out     *bufio.Writer
	failure error
}

type place struct {
	Topic string `json:"topic"`
	Index int32  `json:"index"`
}

type records struct {
	Producer int64 `json:"producer"`
	First    int64 `json:"first"`
	Count    int64 `json:"count"`
}

type event struct {
	Event     string   `json:"event"`
	Partition place    `json:"partition"`
	Producer  *int64   `json:"producer,omitempty"`
	Reader    string   `json:"reader,omitempty"`
	Records   *records `json:"records,omitempty"`
	Offset    *int64   `json:"offset,omitempty"`
	Source    string   `json:"source,omitempty"`
	What      string   `json:"what,omitempty"`
	LogStart  *int64   `json:"log_start,omitempty"`
	Watermark *int64   `json:"high_watermark,omitempty"`
}

func openHistory(path string) (*history, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &history{file: file, out: bufio.NewWriterSize(file, 1<<16)}, nil
}

func (h *history) write(e event) {
	if h == nil {
		return
	}
	line, err := json.Marshal(e)
	h.lock.Lock()
	defer h.lock.Unlock()
	if err == nil {
		_, err = h.out.Write(append(line, '\n'))
	}
	if h.failure == nil {
		h.failure = err
	}
}

// close fails if anything could not be written: half a history proves nothing.
func (h *history) close() error {
	if h == nil {
		return nil
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	if err := h.out.Flush(); h.failure == nil {
		h.failure = err
	}
	if err := h.file.Close(); h.failure == nil {
		h.failure = err
	}
	return h.failure
}

// run gathers records that follow each other in number and in offset into one event.
type run struct {
	records
	offset int64
}

// add gives the run that ended, if this record does not continue it.
func (r *run) add(producer, number, offset int64) (run, bool) {
	next := r.Count > 0 && producer == r.Producer && number == r.First+r.Count && offset == r.offset+r.Count
	if next && r.Count < 1<<31 {
		r.Count++
		return run{}, false
	}
	ended := *r
	*r = run{records{producer, number, 1}, offset}
	return ended, ended.Count > 0
}

const padding = "0123456789abcdef"

// numbered is the value that says of itself who sent it, where to, and as which one.
func numbered(producer int64, partition int32, number int64, size int) []byte {
	value := make([]byte, 0, size+48)
	value = append(strconv.AppendInt(value, producer, 10), ' ')
	value = append(strconv.AppendInt(value, int64(partition), 10), ' ')
	value = append(strconv.AppendInt(value, number, 10), ' ')
	for left := size; left > 0; left -= len(padding) {
		value = append(value, padding[:min(left, len(padding))]...)
	}
	return value
}

// identify reads a value that numbered made. Any byte that is not as it was sent makes it no such value.
func identify(partition int32, value []byte) (producer, number int64, err error) {
	var told int64
	rest := value
	for _, into := range []*int64{&producer, &told, &number} {
		space := bytes.IndexByte(rest, ' ')
		if space < 0 {
			return 0, 0, fmt.Errorf("a value of other make: %.40q", value)
		}
		if *into, err = strconv.ParseInt(string(rest[:space]), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("a value of other make: %.40q", value)
		}
		rest = rest[space+1:]
	}
	if told != int64(partition) {
		return 0, 0, fmt.Errorf("a value sent to partition %d", told)
	}
	for at := range rest {
		if rest[at] != padding[at%len(padding)] {
			return 0, 0, fmt.Errorf("record %d of producer %d with a changed byte", number, producer)
		}
	}
	return producer, number, nil
}
