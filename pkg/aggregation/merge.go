package aggregation

import (
	"math"
	"slices"

	"weir/pkg/event"
)

// Merger adds up the groups of one aggregation, of a level or of finer ones that
// it is made of, over all parts of the deltas that it is given: the outcome has
// one group per bucket of the level and key, save where an integer sum would leave
// 64 bits (see [Folder.Fold]) or a measure is not known of some, and stands for the
// same events. It keeps nothing of the deltas, and belongs to one goroutine.
type Merger struct {
	table  *table
	hasher *hasher
	texts  *translation // of the last delta's dictionary
}

// NewMerger returns one that has added up nothing yet.
func NewMerger(def *Definition, level Granularity) *Merger {
	return &Merger{table: newTable(def, level, event.NewDictionary(), nil), hasher: newHasher()}
}

// Add adds the groups of another delta. After an error, which corrupted sketches
// are, the merger is of no use.
func (m *Merger) Add(delta Delta) error {
	if m.texts == nil || m.texts.from != delta.Dict {
		m.texts = &translation{from: delta.Dict, to: m.table.dict}
	}
	m.texts.grow()
	return m.table.merge(&delta, m.hasher, m.texts)
}

// Held returns about how many bytes it takes.
func (m *Merger) Held() int { return m.table.held() + heldBy(m.table.dict) }

// Delta returns the outcome, in a dictionary of its own.
func (m *Merger) Delta() Delta {
	return Delta{Parts: m.table.pack(nil, &columnSlabs{}), Dict: m.table.dict}
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
	t.take(atMissing, p.Missing, from)
	for i, at := range t.keys {
		t.takeValues(at, p.Keys[i][from:from+b.n], texts)
	}
	t.take(t.events, p.Events, from)
	t.take(t.checksum, p.Checksums, from)
	b.blocks = nil
	for i := range t.def.Measures {
		switch m := &t.def.Measures[i]; {
		case !m.Stored():
		case m.Sketched():
			t.takeBlocks(i, p, from)
		default:
			column := p.Measures[i][from : from+b.n]
			if p.Missing != nil {
				t.takeValues(t.measures[i], t.known(i, column, texts), nil)
			} else {
				t.takeValues(t.measures[i], column, texts)
			}
		}
	}
	if !t.first.empty() {
		t.take(t.first.from, p.FirstTime, from)
		t.take(t.first.from+1, p.FirstSequence, from)
	}
	if !t.last.empty() {
		t.take(t.last.from, p.LastTime, from)
		t.take(t.last.from+1, p.LastSequence, from)
	}
}

// take copies numbers of the part's groups into the block; nil is zeros.
func (t *table) take(at int, column []event.Cell, from int) {
	rows, stride := t.block.rows, t.stride
	if column != nil {
		t.takeValues(place{at: at}, column[from:from+t.block.n], nil)
		return
	}
	for range t.block.n {
		rows[at] = 0
		at += stride
	}
}

// known returns the column of measure k, its texts taken over, without what is
// missing, of which there is nothing to take: its cells are of no meaning, and a
// text among them is in no dictionary.
func (t *table) known(k int, column []event.Cell, texts *translation) []event.Cell {
	b := &t.block
	known := b.known[:len(column)]
	for i, cell := range column {
		switch {
		case b.rows[i*t.stride+atMissing]&MissingBit(k) != 0:
			cell = 0
		case texts != nil && t.measures[k].text != whole:
			cell = texts.cell(cell)
		}
		known[i] = cell
	}
	return known
}

// takeValues copies values of the part's groups into the block.
func (t *table) takeValues(p place, column []event.Cell, texts *translation) {
	rows, at, stride := t.block.rows, p.at, t.stride
	if p.text == whole {
		for _, cell := range column {
			rows[at] = cell
			at += stride
		}
		return
	}
	shift, keep := uint(0), event.Cell(0)
	if p.text == upper {
		shift, keep = 32, math.MaxUint32
	}
	if texts == nil {
		for _, cell := range column {
			rows[at] = rows[at]&keep | cell<<shift
			at += stride
		}
		return
	}
	known := texts.cells
	for _, cell := range column {
		other := event.Cell(known[cell]) - 1
		if other < 0 {
			other = texts.intern(cell)
		}
		rows[at] = rows[at]&keep | other<<shift
		at += stride
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
	return t.intern(cell) // once
}

func (t *translation) intern(cell event.Cell) event.Cell {
	other := t.to.Intern(t.from.Text(cell))
	t.cells[cell] = int32(other + 1) //nolint:gosec // a dictionary has far fewer than 2^31 texts
	return other
}
