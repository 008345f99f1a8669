package alert

import (
	"encoding/binary"
	"maps"
	"slices"
)

const sequentialVersion = 2

func (s *sequential) setBounds(bounds *Bounds) { s.bounds = bounds }

func (s *sequential) size() int { return len(s.keys) }

func (s *sequential) lates() (n int64) {
	n, s.late = s.late, 0
	return n
}

func (s *sequential) crowded() (n int64) {
	n, s.crowds = s.crowds, 0
	return n
}

func (s *sequential) save(each func(key []string, state []byte)) {
	for _, name := range s.forgot {
		if s.keys[name] == nil {
			each(split(name, len(s.of.Key)), nil)
		}
	}
	s.forgot = s.forgot[:0]
	for _, h := range s.keys {
		if h.dirty {
			each(h.key.Parts, s.encode(h))
			h.dirty = false
		}
	}
}

// form is what the state depends on, beside the key.
func (s *sequential) form() []int64 {
	return []int64{sequentialVersion, int64(s.rule.Type), s.step()}
}

func (s *sequential) encode(h *history) (to []byte) {
	for _, n := range s.form() {
		to = binary.AppendVarint(to, n)
	}
	to = binary.AppendVarint(to, h.detailsAt)
	waiting := s.waits(h)
	to = append(binary.AppendUvarint(to, uint64(len(waiting))), waiting...)
	to = binary.AppendUvarint(to, uint64(len(h.open)))
	for _, apart := range slices.Sorted(maps.Keys(h.open)) {
		to = h.open[apart].append(to)
	}
	return h.judge.append(s.rule, to)
}

func (s *sequential) load(key []string, state []byte) error {
	r := &reader{rest: state}
	for _, n := range s.form() {
		if r.varint() != n {
			return errState
		}
	}
	h := &history{detailsAt: r.varint(), judge: s.fresh(), early: never, open: map[string]opened{}}
	var e Evidence
	if waiting, err := DecodeEvidence(r.take(r.count())); err == nil && len(waiting) == 1 {
		e = waiting[0]
	}
	if r.failed || len(e.Keys) != 1 || len(e.Cases) != 1 || len(key) != len(s.of.Key) || len(e.Keys[0].Details) != len(s.of.Details) {
		return errState
	}
	h.key = EvidenceKey{Parts: key, Details: e.Keys[0].Details}
	if c := e.chunk(0, 0, nil); c.left > 0 {
		s.wait(h, c)
	}
	for range r.count() {
		o := r.opened()
		h.open[o.apart] = o
	}
	h.judge.read(s.rule, r)
	if r.failed || len(r.rest) > 0 {
		return errState
	}
	h.next = -never // looked at when something is decided next
	s.keys[joined(key)] = h
	s.wake(h)
	return nil
}

// waits is what waits, in the form in which it came, beside the key's details.
func (s *sequential) waits(h *history) []byte {
	_, s.ready = merge(slices.Clone(h.waiting), never, append(s.ready[:0], h.days...))
	slices.SortFunc(s.ready, func(a, b moment) int { return a.compare(&b) })
	key := EvidenceKey{Details: h.key.Details}
	return evidenceOf(s.rule.Name, s.of.Name, s.rule.has(), []EvidenceKey{key}, [][]moment{s.ready})
}

// has is what evidence of the rule tells of each event.
func (r *Rule) has() (has byte) {
	if r.Type == Unseen || r.Type == Transition {
		has |= haveMembers
	}
	if r.Type == Transition {
		has |= haveStates
	}
	if r.Type == Run {
		has |= haveHits
	}
	if r.Type.ordered() {
		has |= haveOrder
	}
	return has
}

func (o opened) append(to []byte) []byte {
	to = binary.AppendVarint(to, o.fired)
	texts := []string{o.apart}
	for _, name := range slices.Sorted(maps.Keys(o.shown)) {
		texts = append(texts, name, o.shown[name])
	}
	to = appendTexts(to, texts)
	return appendNumber(appendNumber(to, o.value), o.threshold)
}

func (r *reader) opened() opened {
	o := opened{fired: r.varint()}
	texts := r.texts()
	if len(texts)%2 == 0 { // the first, and pairs
		r.take(-1)
		return o
	}
	o.apart = texts[0]
	for i := 1; i < len(texts); i += 2 {
		if o.shown == nil {
			o.shown = map[string]string{}
		}
		o.shown[texts[i]] = texts[i+1]
	}
	o.value, o.threshold = r.number(), r.number()
	return o
}

func (p position) append(to []byte) []byte {
	return binary.AppendVarint(binary.AppendUvarint(binary.AppendVarint(to, p.at), p.sequence), int64(p.offset))
}

func (r *reader) position() position {
	return position{r.varint(), r.uvarint(), int32(r.varint())} //nolint:gosec // as it was written
}
