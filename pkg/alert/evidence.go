package alert

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
)

// Partitions is among how many evaluators the keys can be shared: each key of each rule
// belongs to one of them. What is stored depends on it.
const Partitions = 8

// Evidence is what of one batch concerns one case of a rule, in one partition.
type Evidence struct {
	Rule, Case string
	Keys       []EvidenceKey
	Texts      []string // that items have as members and states
	Width      int      // values per item
	Items      []Item
	Values     []float64 // of the items, one after another
}

// EvidenceKey is a key, and what alerts show beside it.
type EvidenceKey struct{ Parts, Details []string }

// Item is one event, or what several events of a key within one step add up to.
type Item struct {
	Key           int32 // index
	Member, State int32 // indexes of texts; -1: none
	Hit           bool
	Time          int64 // microseconds since 1970 UTC: of the event, or start of the step
	// Sequence and Offset tell events apart that are of one time, where their order matters.
	Sequence uint64
	Offset   int32
	N        int64 // events
}

// values are those of an item.
func (e *Evidence) values(item int) []float64 {
	return e.Values[item*e.Width : (item+1)*e.Width]
}

// partition is the one that a key belongs to.
func partition(rule, name string, parts []string) int {
	h := fnv.New64a()
	for _, text := range append([]string{rule, name}, parts...) {
		_, _ = h.Write([]byte(text))
		_, _ = h.Write([]byte{0})
	}
	return int(h.Sum64() % Partitions)
}

// The encoding is for the time between a worker's commit and the evaluator's next saving of
// what it remembers. Its first byte is its version. Then come all texts, which everything else
// names by their index, and the evidence of one case after another:
//
//	rule, case · keys: parts and details · what items have · values per item · items
//
// Numbers are varints; times and sequences are differences to the item before.
const evidenceVersion = 1

// What the items of an evidence have.
const (
	haveMembers = 1 << iota
	haveStates
	haveOrder // sequence, offset and hit; and N is 1
)

var errEvidence = errors.New("broken evidence")

// DecodeEvidence reads what a [Collector] has written for one partition.
func DecodeEvidence(from []byte) (all []Evidence, err error) {
	if len(from) == 0 {
		return nil, nil
	}
	r := reader{rest: from}
	if version := r.byte(); version != evidenceVersion {
		return nil, fmt.Errorf("evidence is of version %d, this program knows %d", version, evidenceVersion)
	}
	texts := r.texts()
	for range r.count() {
		all = append(all, r.evidence(texts))
		if r.failed {
			break
		}
	}
	if r.failed || len(r.rest) > 0 {
		return nil, errEvidence
	}
	return all, nil
}

func (r *reader) evidence(texts []string) (e Evidence) {
	e.Texts = texts
	e.Rule, e.Case = r.text(texts), r.text(texts)
	keys, parts, details := r.count(), int(r.byte()), int(r.byte())
	if each := parts + details; r.failed || keys*each > len(r.rest) {
		r.take(-1)
		return e
	}
	all := make([]string, 0, keys*(parts+details))
	e.Keys = make([]EvidenceKey, keys)
	for i := range e.Keys {
		from := len(all)
		for range parts + details {
			all = append(all, r.text(texts))
		}
		e.Keys[i] = EvidenceKey{Parts: all[from : from+parts : from+parts], Details: all[from+parts : len(all) : len(all)]}
	}
	has := r.byte()
	e.Width = int(r.byte())
	n := r.count()
	if r.failed {
		return e
	}
	e.Items, e.Values = make([]Item, 0, n), make([]float64, 0, n*min(e.Width, 4))
	var before Item
	for range n {
		before = r.item(&e, has, before)
		if r.failed {
			return e
		}
		e.Items = append(e.Items, before)
		for range e.Width {
			e.Values = append(e.Values, r.number())
		}
	}
	return e
}

// text is one that is named by its index.
func (r *reader) text(texts []string) string {
	i := r.index(len(texts))
	if r.failed {
		return ""
	}
	return texts[i]
}

func (r *reader) item(e *Evidence, has byte, before Item) Item {
	item := Item{Member: -1, State: -1, N: 1}
	item.Key = r.index(len(e.Keys))
	item.Time = before.Time + r.varint()
	if has&haveMembers != 0 {
		item.Member = r.index(len(e.Texts)+1) - 1
	}
	if has&haveStates != 0 {
		item.State = r.index(len(e.Texts)+1) - 1
	}
	if has&haveOrder == 0 {
		item.N = int64(r.uvarint() & math.MaxInt64) //nolint:gosec // masked
		return item
	}
	item.Sequence = before.Sequence + uint64(r.varint()) //nolint:gosec // wraps, as when it was written
	rest := r.uvarint()
	item.Offset, item.Hit = int32(rest>>1&math.MaxInt32), rest&1 != 0 //nolint:gosec // masked
	return item
}
