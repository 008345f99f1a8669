package alert

import (
	"encoding/binary"
	"maps"
	"slices"
)

const sequentialVersion = 1

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
	waiting := AppendEvidence(nil, []Evidence{*h.evidence()})
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
	if r.failed || len(e.Keys) != 1 || len(key) != len(s.of.Key) || len(e.Keys[0].Details) != len(s.of.Details) {
		return errState
	}
	h.key = EvidenceKey{Parts: key, Details: e.Keys[0].Details}
	for i := range e.Items {
		item := &e.Items[i]
		s.wait(h, moment{
			position: position{item.Time, item.Sequence, item.Offset},
			n:        item.N, member: e.text(item.Member), state: e.text(item.State), hit: item.Hit,
		})
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

// evidence is what waits, in the form in which it came, beside the key's details.
func (h *history) evidence() *Evidence {
	e := &Evidence{Keys: []EvidenceKey{{Details: h.key.Details}}}
	index := map[string]int32{}
	of := func(text string) int32 {
		if text == "" {
			return -1
		}
		n, ok := index[text]
		if !ok {
			n = int32(len(e.Texts)) //nolint:gosec // at most the items
			index[text] = n
			e.Texts = append(e.Texts, text)
		}
		return n
	}
	for i := range h.waiting {
		m := &h.waiting[i]
		e.Items = append(e.Items, Item{
			Member: of(m.member), State: of(m.state), Hit: m.hit, Time: m.at, Sequence: m.sequence, Offset: m.offset, N: m.n,
		})
	}
	return e
}

// text is a member or state; of an item that has none, none.
func (e *Evidence) text(index int32) string {
	if index < 0 {
		return ""
	}
	return e.Texts[index]
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
