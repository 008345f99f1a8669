package event

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"strings"
)

// Dictionary interns texts: equal texts get equal cells. It may outlive a batch,
// so that what was met before costs no memory again; Len and Bytes say when it
// has grown too large and is to be replaced. It belongs to one goroutine at a
// time.
type Dictionary struct {
	hashing hashing
	slots   []slot   // open addressing; a power of two, at most half of them taken
	texts   []string // by cell
	slab    strings.Builder
	bytes   int
	results []results
}

// slot is a place of the table: part of a text's hash, and its cell + 1.
type slot struct{ hash, id uint32 }

const (
	fewestSlots = 64
	smallSlab   = 1 << 10
	largeSlab   = 1 << 16
)

// NewDictionary returns an empty dictionary.
func NewDictionary() *Dictionary {
	return &Dictionary{hashing: newHashing()}
}

// Intern returns the cell of the text.
func (d *Dictionary) Intern(text string) Cell { return d.InternBytes([]byte(text)) }

// InternBytes is Intern for bytes; it keeps no reference to them.
func (d *Dictionary) InternBytes(text []byte) Cell {
	return d.intern(text, d.hashing.of(text))
}

// intern is InternBytes where the hash is known.
func (d *Dictionary) intern(text []byte, hash uint64) Cell {
	if id := d.find(text, hash); id >= 0 {
		return id
	}
	return d.add(text, hash)
}

// find returns the cell of the text, or -1.
func (d *Dictionary) find(text []byte, hash uint64) Cell {
	mask := uint32(len(d.slots) - 1)
	for at := uint32(hash) & mask; int(at) < len(d.slots); at = (at + 1) & mask {
		s := d.slots[at]
		if s.id == 0 {
			break
		}
		if s.hash == uint32(hash>>32) && d.texts[s.id-1] == string(text) {
			return Cell(s.id - 1)
		}
	}
	return -1
}

func (d *Dictionary) add(text []byte, hash uint64) Cell {
	if 2*(len(d.texts)+1) > len(d.slots) {
		d.grow()
	}
	d.texts = append(d.texts, d.keep(text))
	d.put(hash, uint32(len(d.texts)))
	return Cell(len(d.texts) - 1)
}

func (d *Dictionary) put(hash uint64, id uint32) {
	mask := uint32(len(d.slots) - 1)
	at := uint32(hash) & mask
	for d.slots[at].id != 0 {
		at = (at + 1) & mask
	}
	d.slots[at] = slot{uint32(hash >> 32), id}
}

func (d *Dictionary) grow() {
	d.slots = make([]slot, max(fewestSlots, 2*len(d.slots)))
	for i, text := range d.texts {
		d.put(d.hashing.of([]byte(text)), uint32(i+1))
	}
}

// keep copies the text into memory that many texts share. What a Builder holds
// does not move as long as its capacity lasts.
func (d *Dictionary) keep(text []byte) string {
	d.bytes += len(text)
	if d.slab.Cap()-d.slab.Len() < len(text) {
		next := min(max(smallSlab, 2*d.slab.Cap()), largeSlab)
		if len(text) > next/8 { // let it not end a slab that has room
			return string(text)
		}
		d.slab = strings.Builder{}
		d.slab.Grow(next)
	}
	from := d.slab.Len()
	d.slab.Write(text)
	return d.slab.String()[from:]
}

// Text returns the text of a cell that this dictionary gave out.
func (d *Dictionary) Text(id Cell) string { return d.texts[id] }

// Len returns the number of different texts.
func (d *Dictionary) Len() int { return len(d.texts) }

// Bytes returns the length of all texts together.
func (d *Dictionary) Bytes() int { return d.bytes }

// TextFunc is a function whose result depends on its argument alone; a
// dictionary remembers what it gave for each of its texts.
type TextFunc struct{ Of func(string) string }

// results are those of one function, each + 1, by the cell of the argument; 0 is
// not known yet.
type results struct {
	function *TextFunc
	cells    []uint32
}

// Apply returns the cell of what the function gives for the text of id.
func (d *Dictionary) Apply(f *TextFunc, id Cell) Cell {
	for i := range d.results {
		r := &d.results[i]
		if r.function != f {
			continue
		}
		if int(id) < len(r.cells) && r.cells[id] != 0 {
			return Cell(r.cells[id] - 1)
		}
		result := d.Intern(f.Of(d.texts[id]))
		if int(id) >= len(r.cells) {
			longer := make([]uint32, max(len(d.texts), 2*len(r.cells)))
			copy(longer, r.cells)
			r.cells = longer
		}
		r.cells[id] = uint32(result + 1)
		return result
	}
	d.results = append(d.results, results{function: f})
	return d.Apply(f, id)
}

// hashing is a hash of texts, eight bytes at a time. Its key is random: who
// sends texts cannot choose them so that they collide.
type hashing struct{ start, factor uint64 }

func newHashing() hashing { return hashing{rand.Uint64(), rand.Uint64() | 1} }

func (h hashing) add(sum, word uint64) uint64 {
	high, low := bits.Mul64(sum^word, h.factor)
	return high ^ low
}

// of returns the hash of the text: of its whole words, of the rest, which is
// shorter than a word, and of its length.
func (h hashing) of(text []byte) uint64 {
	sum, rest := h.start, text
	for len(rest) >= 8 {
		sum = h.add(sum, binary.LittleEndian.Uint64(rest))
		rest = rest[8:]
	}
	return h.add(h.add(sum, word(rest)), uint64(len(text)))
}

// word reads at most eight bytes; what is missing is 0.
func word(b []byte) uint64 {
	var w uint64
	for i := min(len(b), 8) - 1; i >= 0; i-- {
		w = w<<8 | uint64(b[i])
	}
	return w
}
