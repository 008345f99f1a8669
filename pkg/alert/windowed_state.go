package alert

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// errState means that what was remembered is of another definition or release.
var errState = errors.New("what was remembered does not fit the rule")

const windowedVersion = 1

func (w *windowed) setBounds(bounds *Bounds) { w.bounds = bounds }

func (w *windowed) size() int { return len(w.series) }

func (w *windowed) lates() (n int64) {
	n, w.late = w.late, 0
	return n
}

func (w *windowed) crowded() int64 { return 0 }

func (w *windowed) save(each func(key []string, state []byte)) {
	for _, name := range w.forgot {
		if w.series[name] == nil {
			each(split(name, len(w.of.Key)), nil)
		}
	}
	w.forgot = w.forgot[:0]
	for _, s := range w.series {
		if s.dirty {
			each(s.key.Parts, w.encode(s))
			s.dirty = false
		}
	}
}

// form is what the state of a rule depends on, beside its key.
func (w *windowed) form() []int64 {
	return []int64{windowedVersion, w.step(), w.window(), w.before(), int64(len(w.of.Merges))}
}

func (w *windowed) encode(s *series) (to []byte) {
	for _, n := range w.form() {
		to = binary.AppendVarint(to, n)
	}
	to = appendTexts(to, s.key.Details)
	for _, n := range []int64{s.detailsAt, s.known, s.baseAt, s.decided, flag(s.trimmed), flag(s.corrected)} {
		to = binary.AppendVarint(to, n)
	}
	for _, l := range []*lifetime{&s.base, &s.now} {
		to = l.append(to)
	}
	to = binary.AppendUvarint(to, uint64(len(s.said)))
	for _, t := range s.said {
		to = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(to, t.at), flag(t.state == Resolved)), t.fired)
	}
	to = binary.AppendUvarint(to, uint64(len(s.ends)))
	before := int64(0)
	for i, end := range s.ends {
		to = binary.AppendVarint(binary.AppendVarint(to, end-before), s.n[i])
		before = end
	}
	for _, v := range s.values {
		to = appendNumber(to, v)
	}
	return to
}

func (l *lifetime) append(to []byte) []byte {
	for _, n := range []int64{l.pending, flag(l.firing), l.ended, l.fired} {
		to = binary.AppendVarint(to, n)
	}
	return to
}

func (r *reader) lifetime() lifetime {
	return lifetime{pending: r.varint(), firing: r.varint() != 0, ended: r.varint(), fired: r.varint()}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (w *windowed) load(key []string, state []byte) error {
	r := reader{rest: state}
	for _, n := range w.form() {
		if r.varint() != n {
			return errState
		}
	}
	s := &series{key: EvidenceKey{Parts: key}}
	s.key.Details = r.texts()
	s.detailsAt, s.known, s.baseAt, s.decided = r.varint(), r.varint(), r.varint(), r.varint()
	s.trimmed, s.corrected = r.varint() != 0, r.varint() != 0
	s.base, s.now = r.lifetime(), r.lifetime()
	for range r.count() {
		t := turn{at: r.varint(), state: Firing}
		if r.varint() != 0 {
			t.state = Resolved
		}
		t.fired = r.varint()
		s.said = append(s.said, t)
	}
	before := int64(0)
	for range r.count() {
		before += r.varint()
		s.ends, s.n = append(s.ends, before), append(s.n, r.varint())
	}
	for range len(s.ends) * len(w.of.Merges) {
		if s.values = append(s.values, r.number()); r.failed {
			return errState
		}
	}
	if r.failed || len(r.rest) > 0 || len(key) != len(w.of.Key) || len(s.key.Details) != len(w.of.Details) || !slices.IsSorted(s.ends) {
		return errState
	}
	s.next = s.decided // looked at when something is decided next
	w.through = max(w.through, s.decided)
	w.series[joined(key)] = s
	return nil
}

// split is the key that was joined; of one without parts, none.
func split(name string, parts int) []string {
	if parts == 0 {
		return nil
	}
	return strings.Split(name, "\x00")
}
