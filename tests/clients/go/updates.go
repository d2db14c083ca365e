package main

import "strconv"

// updates says which key each numbered record is of, and whether it takes its key away, so that whoever knows the seed knows what a
// topic's every record was: xtask/src/prove/compaction/updates.rs says the same.
type updates struct {
	// Of each partition; a multiple of ten, or 0 for one key and no tombstones.
	keys uint64
	seed uint64
	// One in so many updates is a tombstone.
	tombstoneOneIn uint64
}

// earlyRounds is how many times as many records as keys there are until the early keys rest.
const earlyRounds = 4

func (u updates) of(partition int32, number int64) (key string, gone bool) {
	if u.keys == 0 {
		return "n", false
	}
	n := uint64(number)
	// Each is written once, in order.
	if n < u.keys {
		return strconv.FormatUint(n, 10), false
	}
	h := mixed(u.seed ^ uint64(partition)<<48 ^ n)
	k := h % u.keys
	// A tenth is never touched again, and another one only while the log is young: what is old must stay, and stay away.
	if k%10 == 0 || (k%10 == 5 && n >= earlyRounds*u.keys) {
		k++
	}
	return strconv.FormatUint(k, 10), (h>>40)%u.tombstoneOneIn == 0
}

// mixed is the finalizer of splitmix64.
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
