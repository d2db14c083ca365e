// Package rig is what the Go rigs share: what passed of a partition, lines, what a member owns, and the round of an admin.
package rig

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// Hashing is off only where speed is measured.
var Hashing = true

// Fail ends the rig if there is an error: the reason in one line, and exit code 1.
func Fail(library string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", library, err)
		os.Exit(1)
	}
}

// Seen is what passed of one partition, as lines `key TAB value LF`.
type Seen struct {
	count       int64
	first, last int64
	lines       hash.Hash
	line        []byte
}

// Partitions is what passed, by partition.
type Partitions map[int32]*Seen

// Of makes sure that a partition is told of, also if nothing comes of it.
func (p Partitions) Of(partition int32) *Seen {
	if p[partition] == nil {
		p[partition] = &Seen{first: -1, last: -1, lines: sha256.New()}
	}
	return p[partition]
}

// Add takes the next record of a partition; one that is not behind the last is an error.
func (p Partitions) Add(partition int32, offset int64, key, value []byte) error {
	s := p.Of(partition)
	if s.count > 0 && offset <= s.last {
		return fmt.Errorf("partition %d: offset %d came after %d", partition, offset, s.last)
	}
	if s.count == 0 {
		s.first = offset
	}
	s.count++
	s.last = offset
	if Hashing {
		s.line = append(append(append(append(s.line[:0], key...), '\t'), value...), '\n')
		s.lines.Write(s.line)
	}
	return nil
}

// Print tells all of it, a partition a line.
func (p Partitions) Print() {
	order := make([]int, 0, len(p))
	for partition := range p {
		order = append(order, int(partition))
	}
	sort.Ints(order)
	for _, partition := range order {
		s := p[int32(partition)]
		fmt.Printf("partition=%d count=%d first=%d last=%d sha256=%x\n", partition, s.count, s.first, s.last, s.lines.Sum(nil))
	}
}

// Lines gives key and value of each line; they are the callee's to keep.
func Lines(input io.Reader, each func(key, value []byte)) error {
	reader := bufio.NewReaderSize(input, 1<<20)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		line = line[:len(line)-1]
		tab := 0
		for tab < len(line) && line[tab] != '\t' {
			tab++
		}
		if tab == len(line) {
			return fmt.Errorf("line %d has no tab", number)
		}
		each(line[:tab:tab], line[tab+1:])
	}
}

// UntilClosed is over once the input is closed, or the whole of it is.
func UntilClosed(whole context.Context, input io.Reader) context.Context {
	asked, end := context.WithCancel(whole)
	go func() {
		io.Copy(io.Discard, input)
		end()
	}()
	return asked
}

// Owned is what a member has to read, told at every turn of a rebalance: one that changes nothing is to be seen, too.
type Owned struct {
	lock       sync.Mutex
	partitions map[int32]bool
}

// Change takes partitions in, or gives them up.
func (o *Owned) Change(partitions []int32, mine bool) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.partitions == nil {
		o.partitions = map[int32]bool{}
	}
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
