package alert

import (
	"hash/maphash"
	"time"
)

// recent is what a worker has told lately of the members of a case's keys, so that it is not told
// again with every batch. What a batch tells is told when it is committed.
//
// A key is known when it had enough calls. Once this worker alone has told of enough, further calls at later times make
// no difference; and whether a member was seen, and when last, is kept by the hour, so that calls of the same
// hour that are not before the one that was told make none either. So what is decided does not depend on what is
// left out. It is a cache: what is forgotten is told once more, which changes nothing either.
type recent struct {
	seeds  [2]maphash.Seed
	calls  map[hash]learned
	told   [2]map[hash]int64 // by key and member: when, the earliest of its hour; the younger half first
	staged struct {
		calls map[hash]learned
		told  map[hash]int64
	}
}

// hash is of a key, or of a key and a member: with 128 bits of it, no two are the same.
type hash [2]uint64

// learned is how many calls of a key this worker has told of, at least, and the newest time of one while
// they were not enough for the key to be known.
type learned struct{ calls, newest int64 }

const (
	mostRecent = 100_000 // keys, and members in each half
	hour       = int64(time.Hour / time.Microsecond)
)

func newRecent() *recent {
	r := &recent{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, calls: map[hash]learned{}, told: [2]map[hash]int64{{}, {}}}
	r.staged.calls, r.staged.told = map[hash]learned{}, map[hash]int64{}
	return r
}

// begin forgets what was not committed.
func (r *recent) begin() {
	clear(r.staged.calls)
	clear(r.staged.told)
}

// commit makes what the batch tells told.
func (r *recent) commit() {
	if len(r.calls) > mostRecent {
		clear(r.calls)
	}
	for key, l := range r.staged.calls {
		r.calls[key] = l
	}
	if len(r.told[0]) > mostRecent {
		r.told = [2]map[hash]int64{{}, r.told[0]}
	}
	for pair, at := range r.staged.told {
		r.told[0][pair] = at
	}
	r.begin()
}

// tells reports whether so many calls of a member at a time must be told.
func (r *recent) tells(rule *Rule, parts []string, member string, at, calls int64) bool {
	key := r.hashed(parts, "")
	pair := r.hashed(parts, member)
	l, ok := r.staged.calls[key]
	if !ok {
		l = r.calls[key]
	}
	told, ok := r.staged.told[pair]
	if !ok {
		if told, ok = r.told[0][pair]; !ok {
			told, ok = r.told[1][pair]
		}
	}
	if l.calls <= rule.AtLeast {
		r.staged.calls[key] = learned{l.calls + calls, max(l.newest, at)}
	} else if ok && at >= told && floor(told, hour) == floor(at, hour) && at > l.newest {
		return false
	}
	r.staged.told[pair] = at
	return true
}

func (r *recent) hashed(parts []string, member string) (of hash) {
	for i, seed := range r.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		for _, part := range parts {
			_, _ = h.WriteString(part)
			_ = h.WriteByte(0)
		}
		_, _ = h.WriteString(member)
		of[i] = h.Sum64()
	}
	return of
}
