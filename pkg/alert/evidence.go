package alert

import (
	"errors"
	"fmt"
	"math"
)

// Partitions is among how many evaluators the keys can be shared: each key of each rule
// belongs to one of them. What is stored depends on it.
const Partitions = 8

// Evidence is what of one batch concerns one case of a rule, in one partition; or several cases, where they
// differ only in which events match.
type Evidence struct {
	Rule  string
	Cases []string
	Keys  []EvidenceKey

	form
	base position
}

// form is how items are encoded.
type form struct {
	texts []string // that items have as members and states
	has   byte
	width int   // values per item
	unit  int64 // microseconds: what times are multiples of
}

// EvidenceKey is a key, and what alerts show beside it.
type EvidenceKey struct {
	Parts, Details []string

	items
}

// items are what happened of a key, in the order in which it did: events, or what several events within one step add
// up to. They are encoded, and read where it matters what they are: see [chunk].
type items struct {
	n           int
	first, last int64 // times
	body        []byte
	hits        [][]byte // by case: indexes of the events that match
}

// partition is the one that a key belongs to: FNV-1a of all texts, each with a NUL byte behind it.
func partition(rule, name string, parts []string) int {
	h := hashText(hashText(14695981039346656037, rule), name)
	for _, text := range parts {
		h = hashText(h, text)
	}
	return int(h % Partitions) //nolint:gosec // few
}

func hashText(h uint64, text string) uint64 {
	const prime = 1099511628211
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * prime
	}
	return h * prime
}

// The encoding is for the time between a worker's commit and the evaluator's next saving of
// what it remembers. Its first byte is its version. Then come all texts, which everything else
// names by their index, and the evidence of one case after another:
//
//	rule, cases · what items have · values per item · unit and base · parts and details per key · keys
//	key: parts, details · items: number, first and last time, length, items, and by case those that match
//
// Numbers are varints; times, sequences and indexes are differences to the item before.
const evidenceVersion = 2

// What the items of an evidence have.
const (
	haveMembers = 1 << iota
	haveStates
	haveOrder // sequence and offset; and N is 1
	haveHits
)

var errEvidence = errors.New("broken evidence")

// DecodeEvidence reads what a [Collector] has written for one partition. It keeps parts of what it reads.
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
	e.texts = texts
	e.Rule = r.text(texts)
	for range r.count() {
		e.Cases = append(e.Cases, r.text(texts))
	}
	e.has, e.width = r.byte(), int(r.byte())
	e.unit = int64(r.uvarint() & math.MaxInt64) //nolint:gosec // masked
	e.base.at, e.base.sequence = r.varint(), r.uvarint()
	parts, details := int(r.byte()), int(r.byte())
	keys := r.count()
	if r.failed || keys*(parts+details) > len(r.rest) {
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
		if e.Keys[i].items = r.items(&e); r.failed {
			return e
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

func (r *reader) items(e *Evidence) (i items) {
	i.n = r.count()
	i.first = e.base.at + r.varint()*e.unit
	i.last = i.first + r.varint()*e.unit
	i.body = r.take(r.count())
	if i.n > len(i.body) || i.last < i.first {
		r.take(-1)
	}
	if e.has&haveHits != 0 {
		i.hits = make([][]byte, len(e.Cases))
		for of := range i.hits {
			i.hits[of] = r.take(r.count())
		}
	}
	return i
}
