package alert

import (
	"encoding/binary"
	"strings"

	"weir/pkg/event"
)

// body is what one case has gathered for one partition.
type body struct {
	texts *texts   // of the partition
	name  [2]int32 // of the rule and the case
	keys  []byte   // encoded
	keyed int
	items []byte // encoded
	n     int

	at       int64 // of the item before
	sequence uint64
}

func (b *body) reset() {
	b.keys, b.items = b.keys[:0], b.items[:0]
	b.keyed, b.n, b.at, b.sequence = 0, 0, 0, 0
}

func (b *body) time(at int64) {
	b.items = binary.AppendVarint(b.items, at-b.at)
	b.at = at
}

// text writes the index of a text of the batch's dictionary, and 1: 0 would be none.
func (b *body) text(dict *event.Dictionary, cell event.Cell) {
	b.items = binary.AppendUvarint(b.items, uint64(b.texts.cell(dict, cell))+1) //nolint:gosec // an index
}

func (b *body) order(sequence uint64, offset int32, hit bool) {
	b.items = binary.AppendVarint(b.items, int64(sequence-b.sequence))          //nolint:gosec // wraps, and back
	b.items = binary.AppendUvarint(b.items, uint64(int64(offset)<<1|flag(hit))) //nolint:gosec // never negative
	b.sequence = sequence
}

// texts are those of one partition's evidence, each once.
type texts struct {
	all    []byte // encoded
	n      int32
	at     []int32          // by cell of the dictionary: index + 1
	used   []event.Cell     // that have one
	others map[string]int32 // index of texts that are not as in the dictionary
}

func (t *texts) reset() {
	for _, cell := range t.used {
		t.at[cell] = 0
	}
	t.all, t.n, t.used = t.all[:0], 0, t.used[:0]
	clear(t.others)
}

func (t *texts) add(text string) int32 {
	t.all = append(binary.AppendUvarint(t.all, uint64(len(text))), text...)
	t.n++
	return t.n - 1
}

// cell is the index of a text of the dictionary.
func (t *texts) cell(dict *event.Dictionary, cell event.Cell) int32 {
	if int(cell) >= len(t.at) {
		t.at = append(t.at, make([]int32, dict.Len()-len(t.at))...)
	}
	if t.at[cell] == 0 {
		t.at[cell] = t.add(dict.Text(cell)) + 1
		t.used = append(t.used, cell)
	}
	return t.at[cell] - 1
}

// text is the index of any other.
func (t *texts) text(text string) int32 {
	n, ok := t.others[text]
	if !ok {
		if t.others == nil {
			t.others = map[string]int32{}
		}
		n = t.add(text)
		t.others[text] = n
	}
	return n
}

// states numbers what the events of a batch lead to, so that each text is made once.
type states struct {
	tuples tuples
	tuple  []uint64
	at     [Partitions][]int32 // by number: index in the partition's texts + 1
	text   strings.Builder
}

func (s *states) begin(width int) {
	s.tuples.reset(max(1, width))
	for p := range s.at {
		s.at[p] = s.at[p][:0]
	}
}

// index is the index of an event's state among the texts of a partition.
func (s *states) index(t *texts, part int8, columns *event.Columns, attributes []int, row int) int32 {
	if len(attributes) == 1 {
		return t.cell(columns.Dict, columns.Cells[attributes[0]][row])
	}
	s.tuple = s.tuple[:0]
	for _, attribute := range attributes {
		s.tuple = append(s.tuple, uint64(columns.Cells[attribute][row])) //nolint:gosec // a word
	}
	n, _ := s.tuples.number(s.tuple)
	at := &s.at[part]
	for len(*at) <= int(n) {
		*at = append(*at, 0)
	}
	if (*at)[n] == 0 {
		s.text.Reset()
		for i, attribute := range attributes {
			if i > 0 {
				s.text.WriteByte(' ')
			}
			s.text.WriteString(columns.Text(attribute, row))
		}
		(*at)[n] = t.text(s.text.String()) + 1
	}
	return (*at)[n] - 1
}

// steps are the items of one case and input that stand for several events.
type steps struct {
	units tuples  // key and member, where there is one
	known tuples  // unit and step
	last  []int32 // by unit: its last item

	key    []int32
	member []event.Cell
	start  []int64
	n      []int64
	values []float64
}

func (s *steps) reset() {
	s.units.reset(2)
	s.known.reset(2)
	s.last, s.key, s.member, s.start, s.n, s.values = s.last[:0], s.key[:0], s.member[:0], s.start[:0], s.n[:0], s.values[:0]
}

// gatherSteps adds up the events of each key and step.
func (c *collected) gatherSteps(columns *event.Columns, in *Input, k *numbered) {
	s, step := &c.open, max(1, c.rule.Step.Microseconds())
	s.reset()
	for n := 0; in.Member < 0 && n < len(k.newest); n++ {
		s.last = append(s.last, -1)
	}
	var start, end int64
	loosest := c.loosest()
	for row, dropped := range columns.Dropped {
		if dropped || in.Where >= 0 && columns.Cells[in.Where][row] == 0 {
			continue
		}
		if c.rule.Type == PerEvent {
			value := number(columns, in.Values[0], row)
			if !c.rule.beyond(value, loosest) {
				continue
			}
			if bound, ok := c.bound(k, k.of[row]); !ok || !c.rule.beyond(value, bound) {
				continue
			}
		}
		if at := columns.Times[row]; at < start || at >= end {
			start = floor(at, step)
			end = start + step
		}
		c.add(columns, in, k.of[row], start, row)
	}
	for i := range s.key {
		if _, ok := c.bound(k, s.key[i]); c.rule.Unset && !ok {
			continue
		}
		if c.recent != nil && !c.recent.tells(c.rule, c.parts(k, s.key[i]), columns.Dict.Text(s.member[i]), s.start[i], s.n[i]) {
			continue
		}
		b, index := c.place(k, s.key[i])
		b.items = binary.AppendUvarint(b.items, uint64(index)) //nolint:gosec // an index
		b.time(s.start[i])
		if in.Member >= 0 {
			b.text(columns.Dict, s.member[i])
		}
		b.items = binary.AppendUvarint(b.items, uint64(s.n[i])) //nolint:gosec // a count
		width := len(c.of.Merges)
		for _, v := range s.values[i*width : (i+1)*width] {
			b.items = appendNumber(b.items, v)
		}
		b.n++
	}
}

// add adds an event to its key's step.
func (c *collected) add(columns *event.Columns, in *Input, key int32, start int64, row int) {
	s, unit := &c.open, key
	var member event.Cell
	if in.Member >= 0 {
		member = columns.Cells[in.Member][row]
		var fresh bool
		if unit, fresh = s.units.number([]uint64{uint64(key), uint64(member)}); fresh { //nolint:gosec // words
			s.last = append(s.last, -1)
		}
	}
	item := s.last[unit]
	if item < 0 || s.start[item] != start {
		n, fresh := s.known.number([]uint64{uint64(unit), uint64(start)}) //nolint:gosec // words
		item, s.last[unit] = n, n
		if fresh {
			s.key, s.member, s.start, s.n = append(s.key, key), append(s.member, member), append(s.start, start), append(s.n, 1)
			for i := range c.of.Merges {
				s.values = append(s.values, number(columns, in.Values[i], row))
			}
			return
		}
	}
	s.n[item]++
	width := len(c.of.Merges)
	for i, merge := range c.of.Merges {
		of := &s.values[int(item)*width+i]
		*of = merge.two(*of, number(columns, in.Values[i], row))
	}
}

func (m Merge) two(a, b float64) float64 {
	switch m {
	case Min:
		return min(a, b)
	case Max:
		return max(a, b)
	case Sum:
	}
	return a + b
}

// floor is the start of the step that a time is in.
func floor(at, step int64) int64 {
	start := at - at%step
	if at%step < 0 {
		start -= step
	}
	return start
}
