package alert

import "encoding/binary"

// entry is what happened of one key, as it is being encoded. Items come in the order of their times.
type entry struct {
	unit int64
	base position

	items    []byte
	n        int
	first    int64
	last     int64
	sequence uint64
	hits     []hitList // by case
}

// hitList are the indexes of the events that match, encoded.
type hitList struct {
	indexes []byte
	next    int // behind the last
}

// begin forgets the items of another key.
func (w *entry) begin(e *Evidence) {
	w.unit, w.base = e.unit, e.base
	w.items, w.n, w.sequence = w.items[:0], 0, e.base.sequence
	if cap(w.hits) < len(e.Cases) {
		w.hits = make([]hitList, len(e.Cases))
	}
	w.hits = w.hits[:len(e.Cases)]
	for i := range w.hits {
		w.hits[i] = hitList{indexes: w.hits[i].indexes[:0]}
	}
}

// time begins an item.
func (w *entry) time(at int64) {
	if w.n == 0 {
		w.first, w.last = at, at
	}
	w.items = binary.AppendUvarint(w.items, uint64((at-w.last)/w.unit)) //nolint:gosec // in order
	w.last = at
	w.n++
}

// text is a member or state, by its index; -1 is none.
func (w *entry) text(index int32) {
	w.items = binary.AppendUvarint(w.items, uint64(index+1)) //nolint:gosec // from -1
}

// order is the place of an event among those of one time.
func (w *entry) order(sequence uint64, offset int32) {
	w.items = binary.AppendVarint(w.items, int64(sequence-w.sequence)) //nolint:gosec // wraps, and back
	w.items = binary.AppendUvarint(w.items, uint64(offset))            //nolint:gosec // never negative
	w.sequence = sequence
}

// events is how many events the item stands for.
func (w *entry) events(n int64) {
	w.items = binary.AppendUvarint(w.items, uint64(n)) //nolint:gosec // a count
}

// hit says that the last item matches, for a case.
func (w *entry) hit(of int) {
	h, index := &w.hits[of], w.n-1
	h.indexes = binary.AppendUvarint(h.indexes, uint64(index-h.next)) //nolint:gosec // in order
	h.next = index + 1
}

// append writes the entry behind the texts of its key.
func (w *entry) append(to []byte, has byte) []byte {
	to = binary.AppendUvarint(to, uint64(w.n)) //nolint:gosec // a count
	to = binary.AppendVarint(to, (w.first-w.base.at)/w.unit)
	to = binary.AppendVarint(to, (w.last-w.first)/w.unit)
	to = append(binary.AppendUvarint(to, uint64(len(w.items))), w.items...)
	if has&haveHits != 0 {
		for i := range w.hits {
			to = append(binary.AppendUvarint(to, uint64(len(w.hits[i].indexes))), w.hits[i].indexes...)
		}
	}
	return to
}

// appendHead writes what comes before the keys.
func (e *Evidence) appendHead(to []byte, name int32, cases []int32, parts, details, keys int) []byte {
	to = binary.AppendUvarint(to, uint64(name))       //nolint:gosec // an index
	to = binary.AppendUvarint(to, uint64(len(cases))) //nolint:gosec // few
	for _, index := range cases {
		to = binary.AppendUvarint(to, uint64(index)) //nolint:gosec // an index
	}
	to = append(to, e.has, byte(e.width))         //nolint:gosec // few measures
	to = binary.AppendUvarint(to, uint64(e.unit)) //nolint:gosec // positive
	to = binary.AppendUvarint(binary.AppendVarint(to, e.base.at), e.base.sequence)
	to = append(to, byte(parts), byte(details))   //nolint:gosec // few
	return binary.AppendUvarint(to, uint64(keys)) //nolint:gosec // a count
}

// evidenceOf encodes what happened of keys, in order, as a [Collector] does of batches.
func evidenceOf(rule, of string, has byte, keys []EvidenceKey, happened [][]moment) []byte {
	e := Evidence{Cases: []string{of}, form: form{has: has, unit: 1}}
	var t texts
	name, cases := t.text(rule), []int32{t.text(of)}
	var bodies []byte
	var w entry
	for i, key := range keys {
		for _, text := range append(key.Parts[:len(key.Parts):len(key.Parts)], key.Details...) {
			bodies = binary.AppendUvarint(bodies, uint64(t.text(text))) //nolint:gosec // an index
		}
		w.begin(&e)
		for j := range happened[i] {
			w.moment(&happened[i][j], has, &t)
		}
		bodies = w.append(bodies, has)
	}
	parts, details := 0, 0
	if len(keys) > 0 {
		parts, details = len(keys[0].Parts), len(keys[0].Details)
	}
	to := append(binary.AppendUvarint([]byte{evidenceVersion}, uint64(t.n)), t.all...) //nolint:gosec // a count
	return append(e.appendHead(append(to, 1), name, cases, parts, details, len(keys)), bodies...)
}

func (w *entry) moment(m *moment, has byte, t *texts) {
	w.time(m.at)
	for i, text := range []string{m.member, m.state} {
		if has>>i&1 == 0 { // haveMembers, haveStates
			continue
		}
		if text == "" {
			w.text(-1)
		} else {
			w.text(t.text(text))
		}
	}
	if has&haveOrder != 0 {
		w.order(m.sequence, m.offset)
	} else {
		w.events(m.n)
	}
	if m.hit {
		w.hit(0)
	}
}
