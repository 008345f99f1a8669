package alert

import (
	"encoding/binary"
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
// what it remembers. Its first byte is its version.
const evidenceVersion = 1

// What the items of an evidence have.
const (
	haveMembers = 1 << iota
	haveStates
	haveOrder // sequence, offset and hit; and N is 1
)

// AppendEvidence encodes what concerns one partition; nothing for nothing.
func AppendEvidence(to []byte, all []Evidence) []byte {
	if len(all) == 0 {
		return to
	}
	to = append(to, evidenceVersion)
	to = binary.AppendUvarint(to, uint64(len(all)))
	for i := range all {
		to = all[i].append(to)
	}
	return to
}

func (e *Evidence) append(to []byte) []byte {
	to = appendTexts(to, []string{e.Rule, e.Case})
	to = binary.AppendUvarint(to, uint64(len(e.Keys)))
	for _, key := range e.Keys {
		to = appendTexts(appendTexts(to, key.Parts), key.Details)
	}
	to = appendTexts(to, e.Texts)
	has := e.has()
	to = append(to, has, byte(e.Width)) //nolint:gosec // few measures
	to = binary.AppendUvarint(to, uint64(len(e.Items)))
	var before Item
	for i := range e.Items {
		item := &e.Items[i]
		to = binary.AppendUvarint(to, uint64(item.Key)) //nolint:gosec // an index
		to = binary.AppendVarint(to, item.Time-before.Time)
		if has&haveMembers != 0 {
			to = binary.AppendUvarint(to, uint64(item.Member+1)) //nolint:gosec // -1 or an index
		}
		if has&haveStates != 0 {
			to = binary.AppendUvarint(to, uint64(item.State+1)) //nolint:gosec // -1 or an index
		}
		if has&haveOrder == 0 {
			to = binary.AppendUvarint(to, uint64(item.N)) //nolint:gosec // a count
		} else {
			hit := int64(0)
			if item.Hit {
				hit = 1
			}
			to = binary.AppendVarint(to, int64(item.Sequence-before.Sequence)) //nolint:gosec // wraps, and back
			to = binary.AppendUvarint(to, uint64(int64(item.Offset)<<1|hit))   //nolint:gosec // never negative
		}
		for _, v := range e.values(i) {
			to = appendNumber(to, v)
		}
		before = *item
	}
	return to
}

func (e *Evidence) has() (has byte) {
	for i := range e.Items {
		item := &e.Items[i]
		if item.Member >= 0 {
			has |= haveMembers
		}
		if item.State >= 0 {
			has |= haveStates
		}
		if item.Sequence != 0 {
			has |= haveOrder
		}
	}
	return has
}

var errEvidence = errors.New("broken evidence")

// DecodeEvidence reads what AppendEvidence has written.
func DecodeEvidence(from []byte) (all []Evidence, err error) {
	if len(from) == 0 {
		return nil, nil
	}
	r := reader{rest: from}
	if version := r.byte(); version != evidenceVersion {
		return nil, fmt.Errorf("evidence is of version %d, this program knows %d", version, evidenceVersion)
	}
	for range r.count() {
		all = append(all, r.evidence())
		if r.failed {
			break
		}
	}
	if r.failed || len(r.rest) > 0 {
		return nil, errEvidence
	}
	return all, nil
}

func (r *reader) evidence() (e Evidence) {
	if names := r.texts(); len(names) == 2 {
		e.Rule, e.Case = names[0], names[1]
	} else {
		r.failed = true
	}
	for range r.count() {
		e.Keys = append(e.Keys, EvidenceKey{Parts: r.texts(), Details: r.texts()})
		if r.failed {
			return e
		}
	}
	e.Texts = r.texts()
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
