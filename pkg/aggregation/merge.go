package aggregation

import (
	"slices"

	"weir/pkg/event"
)

// Merge adds up the groups of one aggregation, of a level or of finer ones that
// it is made of, over all their parts: the outcome has one group per bucket of
// the level and key, save where an integer sum would leave 64 bits (see Fold) or
// a measure is not known of some, and stands for the same events. Corrupted
// sketches are an error.
func Merge(def *Definition, level Granularity, delta Delta) (Delta, error) {
	t := newTable(def, level, delta.Dict, nil)
	if err := t.merge(&delta, newHasher(), nil); err != nil {
		return Delta{}, err
	}
	return Delta{Parts: t.pack(nil, &columnSlabs{}), Dict: delta.Dict}, nil
}

// merge adds the groups of those parts of the delta that are of the table's
// aggregation; they are at its level or a finer one that nests in it. Their texts
// are taken over by the translation, nil where they are the table's own.
func (t *table) merge(delta *Delta, h *hasher, texts *translation) error {
	for i := range delta.Parts {
		p := &delta.Parts[i]
		if p.Definition != t.def {
			continue
		}
		bucket := event.Cell(t.level.Truncate(p.Bucket, t.def.Zone))
		hashed := delta.hasher == h && p.hashes != nil
		for from := 0; from < p.Len(); from += blockRows {
			t.block.n = min(blockRows, p.Len()-from)
			if hashed {
				t.takeHashes(p.hashes[from:])
			} else {
				t.takeHashes(h.groups(t.block.hashes[:t.block.n], p, from, delta.Dict))
			}
			t.fill(p, from, bucket, texts)
			if err := t.absorb(); err != nil {
				return err
			}
		}
	}
	if t.gate != nil {
		t.gate.commit() // what is merged is committed at a finer level
	}
	return nil
}

// groups hashes the keys of groups of a part, from one on.
func (h *hasher) groups(into []uint64, p *Part, from int, dict *event.Dictionary) []uint64 {
	texts := h.texts(dict)
	h.begin(into)
	for i, key := range p.Definition.Keys {
		h.column(into, key.Kind, p.Keys[i][from:], nil, texts)
	}
	h.end(into)
	return into
}

func (t *table) takeHashes(hashes []uint64) {
	for i, hash := range hashes[:t.block.n] {
		t.block.rows[i*t.stride] = event.Cell(hash) //nolint:gosec // bits
	}
}

// fill makes the block hold the part's groups from one on, but for their hashes.
func (t *table) fill(p *Part, from int, bucket event.Cell, texts *translation) {
	b := &t.block
	for i := range b.n {
		b.rows[i*t.stride+atBucket] = bucket
	}
	for i, key := range t.def.Keys {
		t.take(atKeys+i, p.Keys[i], from, key.Kind == event.String, texts, 0, p)
	}
	t.take(t.missing, p.Missing, from, false, nil, 0, p)
	t.take(t.events, p.Events, from, false, nil, 0, p)
	t.take(t.checksum, p.Checksums, from, false, nil, 0, p)
	b.blocks = nil
	for i := range t.def.Measures {
		switch m := &t.def.Measures[i]; {
		case !m.Stored():
		case m.Sketched():
			t.takeBlocks(i, p, from)
		default:
			t.take(t.place[i], p.Measures[i], from, m.ofText(), texts, MissingBit(i), p)
		}
	}
	if !t.first.empty() {
		t.take(t.first.from, p.FirstTime, from, false, nil, 0, p)
		t.take(t.first.from+1, p.FirstSequence, from, false, nil, 0, p)
	}
	if !t.last.empty() {
		t.take(t.last.from, p.LastTime, from, false, nil, 0, p)
		t.take(t.last.from+1, p.LastSequence, from, false, nil, 0, p)
	}
}

// take copies a column of the part's groups into the block; nil is one of
// zeros. Of what is missing of a group there is nothing to take: its cells are
// of no meaning, and a text among them is in no dictionary.
func (t *table) take(at int, column []event.Cell, from int, text bool, texts *translation, bit event.Cell, p *Part) {
	rows, stride := t.block.rows, t.stride
	if column == nil {
		for range t.block.n {
			rows[at] = 0
			at += stride
		}
		return
	}
	column = column[from : from+t.block.n]
	switch {
	case bit != 0 && p.Missing != nil:
		for i, cell := range column {
			switch {
			case p.Missing[from+i]&bit != 0:
				cell = 0
			case text && texts != nil:
				cell = texts.cell(cell)
			}
			rows[at] = cell
			at += stride
		}
	case text && texts != nil:
		known := texts.cells
		for _, cell := range column {
			other := event.Cell(known[cell]) - 1
			if other < 0 {
				other = texts.intern(cell)
			}
			rows[at] = other
			at += stride
		}
	default:
		for _, cell := range column {
			rows[at] = cell
			at += stride
		}
	}
}

// takeBlocks lists the sketches of measure k of the part's groups.
func (t *table) takeBlocks(k int, p *Part, from int) {
	b := &t.block
	if b.blocks == nil {
		b.blocks = make([][][]byte, len(t.def.Measures))
	}
	b.blocks[k] = p.Sketches[k][from : from+b.n]
	if p.Missing == nil {
		return
	}
	b.blocks[k] = slices.Clone(b.blocks[k])
	for i := range b.n {
		if p.Missing[from+i]&MissingBit(k) != 0 {
			b.blocks[k][i] = nil
		}
	}
}

// translation takes cells of texts over into another dictionary, looking up
// each text once. It holds as long as the two dictionaries do.
type translation struct {
	from, to *event.Dictionary
	cells    []int32 // by cell of the one: that of the other + 1; 0 is not looked up yet
}

// grow makes room for the texts that the dictionary has got.
func (t *translation) grow() {
	if n := t.from.Len() - len(t.cells); n > 0 {
		t.cells = append(t.cells, make([]int32, n)...)
	}
}

func (t *translation) cell(cell event.Cell) event.Cell {
	if known := t.cells[cell]; known > 0 {
		return event.Cell(known - 1)
	}
	return t.intern(cell)
}

func (t *translation) intern(cell event.Cell) event.Cell {
	other := t.to.Intern(t.from.Text(cell))
	t.cells[cell] = int32(other + 1) //nolint:gosec // a dictionary has far fewer than 2^31 texts
	return other
}
