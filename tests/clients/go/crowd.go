package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// crowd is a group whose members come, leave and crash all the while, and an observer that asks the coordinator how the group
// stands and how far it has read. It judges nothing: what members were told and what the observer saw goes into its history.
type crowd struct {
	bootstrap, topic, group string
	consumerProtocol        bool
	members                 int
	between                 time.Duration
	partitions              int

	began time.Time
	lock  sync.Mutex
	out   *bufio.Writer
	wrong error
	// moved is when the group was last seen to be anything but settled.
	moved time.Time
}

// told is one line of the history, read by xtask/src/prove/groups/judge.rs.
type told struct {
	AtUs       int64           `json:"at_us"`
	Event      string          `json:"event"`
	Member     string          `json:"member,omitempty"`
	Generation int32           `json:"generation"`
	Partitions []int32         `json:"partitions,omitempty"`
	Offsets    map[int32]int64 `json:"offsets,omitempty"`
	AskedUs    int64           `json:"asked_us,omitempty"`
	State      string          `json:"state,omitempty"`
}

func (c *crowd) now() int64 { return time.Since(c.began).Microseconds() }

func (c *crowd) tell(t told) {
	c.lock.Lock()
	defer c.lock.Unlock()
	t.AtUs = c.now()
	line, err := json.Marshal(t)
	if err == nil {
		_, err = c.out.Write(append(line, '\n'))
	}
	if c.wrong == nil {
		c.wrong = err
	}
}

// participant is one client. One that has crashed has no network any more: it leaves no word behind.
type participant struct {
	crowd  *crowd
	name   string
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}

	lock  sync.Mutex
	owned map[int32]bool
	conns []net.Conn
	dead  bool
}

func (m *participant) dial(ctx context.Context, network, host string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.dead {
		conn.Close()
		return nil, errors.New("crashed")
	}
	m.conns = append(m.conns, conn)
	return conn, nil
}

// owns takes note of what changed, and tells all that it has now.
func (m *participant) owns(client *kgo.Client, partitions []int32, mine bool) {
	m.lock.Lock()
	for _, partition := range partitions {
		if mine {
			m.owned[partition] = true
		} else {
			delete(m.owned, partition)
		}
	}
	all := make([]int32, 0, len(m.owned))
	for partition := range m.owned {
		all = append(all, partition)
	}
	dead := m.dead
	m.lock.Unlock()
	if dead {
		return
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	_, generation := client.GroupMetadata()
	m.crowd.tell(told{Event: "owns", Member: m.name, Generation: generation, Partitions: all})
}

func (c *crowd) join(ctx context.Context, name string) (*participant, error) {
	ctx, stop := context.WithCancel(ctx)
	m := &participant{crowd: c, name: name, stop: stop, done: make(chan struct{}), owned: map[int32]bool{}}
	changed := func(mine bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, client *kgo.Client, of map[string][]int32) { m.owns(client, of[c.topic], mine) }
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(c.bootstrap), kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(c.topic), kgo.ClientID(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(500 * time.Millisecond), kgo.SessionTimeout(6 * time.Second), kgo.RebalanceTimeout(10 * time.Second),
		kgo.Dialer(m.dial), kgo.MetadataMinAge(100 * time.Millisecond), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(changed(true)), kgo.OnPartitionsRevoked(changed(false)), kgo.OnPartitionsLost(changed(false)),
	}
	if c.consumerProtocol {
		options = append(options, kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		stop()
		return nil, err
	}
	m.client = client
	c.tell(told{Event: "joins", Member: name, Generation: -1})
	go m.read(ctx)
	return m, nil
}

// read reads and commits what it has read, time and again.
func (m *participant) read(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		polling, polled := context.WithTimeout(ctx, 500*time.Millisecond)
		m.client.PollFetches(polling)
		polled()
		if uncommitted := m.client.UncommittedOffsets(); len(uncommitted[m.crowd.topic]) > 0 && ctx.Err() == nil {
			// What was refused is read again, by whoever has the partition then.
			m.client.CommitOffsetsSync(ctx, uncommitted, m.committed)
		}
		m.client.AllowRebalance()
	}
}

// committed takes note of the positions that the coordinator has acknowledged.
func (m *participant) committed(_ *kgo.Client, request *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
	if err != nil || len(request.Topics) != 1 || len(answer.Topics) != 1 {
		return
	}
	asked, kept := map[int32]int64{}, map[int32]int64{}
	for _, partition := range request.Topics[0].Partitions {
		asked[partition.Partition] = partition.Offset
	}
	for _, partition := range answer.Topics[0].Partitions {
		if partition.ErrorCode == 0 {
			kept[partition.Partition] = asked[partition.Partition]
		}
	}
	if len(kept) > 0 {
		m.crowd.tell(told{Event: "commits", Member: m.name, Generation: request.Generation, Offsets: kept})
	}
}

// leave goes in good order.
func (m *participant) leave() {
	m.stop()
	<-m.done
	m.client.CloseAllowingRebalance()
	m.crowd.tell(told{Event: "left", Member: m.name, Generation: -1})
}

// crash goes without a word.
func (m *participant) crash() {
	m.lock.Lock()
	m.dead = true
	conns := m.conns
	m.lock.Unlock()
	m.crowd.tell(told{Event: "crashed", Member: m.name, Generation: -1})
	for _, conn := range conns {
		conn.Close()
	}
	m.stop()
	// It tries to say goodbye, which nobody hears.
	go func() {
		<-m.done
		m.client.CloseAllowingRebalance()
	}()
}

// watch asks how the group stands, and how far it has read, until it is stopped.
func (c *crowd) watch(ctx context.Context, admin *kadm.Client) {
	for ctx.Err() == nil {
		asking, asked := context.WithTimeout(ctx, 5*time.Second)
		state, unowned := c.state(asking, admin)
		if state != "settled" {
			c.lock.Lock()
			c.moved = time.Now()
			c.lock.Unlock()
		}
		c.tell(told{Event: "group", Generation: -1, State: state, Partitions: unowned})
		before := c.now()
		if positions, err := admin.FetchOffsets(asking, c.group); err == nil {
			offsets := map[int32]int64{}
			for partition, position := range positions[c.topic] {
				if position.Err == nil && position.At >= 0 {
					offsets[partition] = position.At
				}
			}
			c.tell(told{Event: "positions", Generation: -1, AskedUs: before, Offsets: offsets})
		}
		asked()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// state is "settled" while every partition has one owner and the coordinator wants no other, and else why it is not; with the
// partitions that have none.
func (c *crowd) state(ctx context.Context, admin *kadm.Client) (string, []int32) {
	owners := map[int32]int{}
	var state string
	if c.consumerProtocol {
		groups, err := admin.DescribeConsumerGroups(ctx, c.group)
		group := groups[c.group]
		if err == nil {
			err = group.Err
		}
		if err != nil {
			return "unknown", nil
		}
		state = group.State
		for _, member := range group.Members {
			for partition := range member.Assignment[c.topic] {
				owners[partition]++
			}
		}
	} else {
		groups, err := admin.DescribeGroups(ctx, c.group)
		group := groups[c.group]
		if err == nil {
			err = group.Err
		}
		if err != nil {
			return "unknown", nil
		}
		state = group.State
		for _, member := range group.Members {
			if assigned, ok := member.Assigned.AsConsumer(); ok {
				for _, topic := range assigned.Topics {
					for _, partition := range topic.Partitions {
						owners[partition]++
					}
				}
			}
		}
	}
	for partition, count := range owners {
		if count > 1 {
			return fmt.Sprintf("doubled: partition %d has %d owners", partition, count), nil
		}
	}
	var unowned []int32
	for partition := range int32(c.partitions) {
		if owners[partition] == 0 {
			unowned = append(unowned, partition)
		}
	}
	if state == "Stable" && len(unowned) == 0 {
		return "settled", nil
	}
	return "moving", unowned
}

// settle waits until the group has been settled for longer than a session lasts, so that nobody is missed who has crashed; or
// until it has had more time than it may take, which is then in the history. In some seconds at least every partition is read on.
func (c *crowd) settle(ctx context.Context) {
	began := time.Now()
	deadline := began.Add(90 * time.Second)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		c.lock.Lock()
		still := time.Since(c.moved)
		c.lock.Unlock()
		if still > 10*time.Second && time.Since(began) > 5*time.Second {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// run lets members come and go until input ends, and then watches for as long as the group may take to settle.
func (c *crowd) run(ctx context.Context, path string, seed int64, input io.Reader) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	c.began, c.moved, c.out = time.Now(), time.Now(), bufio.NewWriterSize(file, 1<<16)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.bootstrap), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	details, err := admin.ListTopics(ctx, c.topic)
	if err != nil {
		return err
	}
	c.partitions = len(details[c.topic].Partitions)
	dice := rand.New(rand.NewSource(seed))
	var members []*participant
	count := 0
	add := func() error {
		m, err := c.join(ctx, fmt.Sprintf("m%d", count))
		count++
		members = append(members, m)
		return err
	}
	for range c.members {
		if err := add(); err != nil {
			return err
		}
	}
	watching, watched := context.WithCancel(ctx)
	defer watched()
	go c.watch(watching, admin)
	asked := make(chan struct{})
	go func() {
		io.Copy(io.Discard, input)
		close(asked)
	}()
	left, crashed := 0, 0
	for going := true; going; {
		select {
		case <-asked:
			going = false
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(dice.Int63n(2*int64(c.between) + 1))):
		}
		// As often one comes as one goes, about the number that is wanted.
		if len(members) <= c.members/2 || (len(members) < c.members && dice.Intn(2) == 0) {
			if err := add(); err != nil {
				return err
			}
			continue
		}
		at := dice.Intn(len(members))
		going := members[at]
		members = append(members[:at], members[at+1:]...)
		if dice.Intn(2) == 0 {
			left++
			go going.leave()
		} else {
			crashed++
			going.crash()
		}
	}
	c.tell(told{Event: "churn ends", Generation: -1})
	c.settle(ctx)
	watched()
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.out.Flush(); c.wrong == nil {
		c.wrong = err
	}
	if err := file.Close(); c.wrong == nil {
		c.wrong = err
	}
	// What is told from here on goes nowhere.
	c.out = bufio.NewWriter(io.Discard)
	fmt.Printf("joined=%d left=%d crashed=%d\n", count, left, crashed)
	return c.wrong
}
