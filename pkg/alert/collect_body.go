package alert

import (
	"encoding/binary"
	"slices"
	"strings"

	"weir/pkg/event"
)

// body is what one case has gathered for one partition.
type body struct {
	texts   *texts  // of the partition
	names   []int32 // of the rule and the cases
	keys    int
	entries []byte // of keys, encoded
}

func (b *body) reset() { b.names, b.keys, b.entries = b.names[:0], 0, b.entries[:0] }

func (b *body) name(rule string, cases []string) {
	b.names = append(b.names[:0], b.texts.text(rule))
	for _, name := range cases {
		b.names = append(b.names, b.texts.text(name))
	}
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

// spelled are texts of events, numbered, with where they are among the texts of each partition.
type spelled struct {
	*numbered

	at     [Partitions][]int32 // by number: index + 1
	joined []string            // by number: what several attributes are together; "": not known yet
}

func (s *spelled) begin() {
	for p := range s.at {
		s.at[p] = append(s.at[p][:0], make([]int32, len(s.newest))...)
	}
	s.joined = append(s.joined[:0], make([]string, len(s.newest))...)
}

// index is the index of an event's text in a partition. Of several attributes, the text is them with a space between.
func (s *spelled) index(t *texts, part int, row int32) int32 {
	n := s.of[row]
	at := &s.at[part][n]
	switch {
	case *at > 0:
	case len(s.attributes) == 1:
		*at = t.cell(s.columns.Dict, s.columns.Cells[s.attributes[0]][row]) + 1
	default:
		if s.joined[n] == "" {
			s.joined[n] = s.join(int(row))
		}
		*at = t.add(s.joined[n]) + 1
	}
	return *at - 1
}

func (s *spelled) join(row int) string {
	texts := make([]string, len(s.attributes))
	for i, attribute := range s.attributes {
		texts[i] = s.columns.Text(attribute, row)
	}
	return strings.Join(texts, " ")
}

// events takes in each event of a key by itself.
func (c *collected) events(columns *event.Columns, key int, rows []int32) {
	var b *body
	part := 0
	w := &c.entry
	w.begin(&c.Evidence)
	for _, row := range rows {
		if c.in.Where >= 0 && columns.Cells[c.in.Where][row] == 0 {
			continue
		}
		if b == nil {
			part = c.partition(key)
			b = &c.bodies[part]
		}
		w.time(columns.Times[row])
		if c.has&haveMembers != 0 {
			w.text(c.member.index(b.texts, part, row))
		}
		if c.has&haveStates != 0 {
			w.text(c.state.index(b.texts, part, row))
		}
		w.order(columns.Sequences[row], columns.Offsets[row])
		if c.has&haveHits == 0 {
			continue
		}
		for of, hit := range c.hits {
			if hit >= 0 && columns.Cells[hit][row] != 0 {
				w.hit(of)
			}
		}
	}
	c.write(b, key)
}

// write puts what happened of a key, if anything did, into the body of its partition.
func (c *collected) write(b *body, key int) {
	if c.entry.n == 0 {
		return
	}
	c.writeKey(b, key)
	b.entries = c.entry.append(b.entries, c.has)
	b.keys++
}

// partition is that of a key.
func (c *collected) partition(key int) int {
	return partition(c.Rule, c.Cases[0], c.parts(c.keys, key))
}

// parts is a key as texts, which is how it is known outside of the batch. They are valid until the next call.
func (c *collected) parts(k *numbered, key int) []string {
	c.texts = c.texts[:0]
	for i, part := range c.of.Key {
		part.Attribute = c.in.Keys[i]
		c.texts = append(c.texts, cellText(k.columns, part, int(k.newest[key])))
	}
	return c.texts
}

// writeKey writes the indexes of a key's texts, and of those of its details.
func (c *collected) writeKey(b *body, key int) {
	k := c.keys
	row := int(k.newest[key])
	write := func(attribute int, whole bool) {
		kind, cell := k.columns.Schema.Attributes[attribute].Kind, k.columns.Cells[attribute][row]
		var n int32
		if kind == event.String && (whole || len(k.columns.Dict.Text(cell)) <= maxText) {
			n = b.texts.cell(k.columns.Dict, cell)
		} else if text := cellText(k.columns, KeyPart{Kind: kind, Attribute: attribute}, row); whole {
			n = b.texts.text(text)
		} else {
			n = b.texts.text(clip(text))
		}
		b.entries = binary.AppendUvarint(b.entries, uint64(n)) //nolint:gosec // an index
	}
	for _, attribute := range c.in.Keys {
		write(attribute, true)
	}
	for _, attribute := range c.in.Details {
		write(attribute, false)
	}
}

// sums takes in what the events of each step of a key add up to.
func (c *collected) sums(columns *event.Columns, key int, rows []int32, bound float64) {
	var start, n int64
	step, width := c.unit, c.width
	s := &c.open
	s.values = slices.Grow(s.values[:0], width)[:width]
	w := &c.entry
	w.begin(&c.Evidence)
	end := func() {
		if n == 0 {
			return
		}
		w.time(start)
		w.events(n)
		for _, v := range s.values {
			w.items = appendNumber(w.items, v)
		}
	}
	for _, row := range rows {
		if c.in.Where >= 0 && columns.Cells[c.in.Where][row] == 0 {
			continue
		}
		if c.rule.Type == PerEvent && !c.rule.beyond(number(columns, c.in.Values[0], int(row)), bound) {
			continue
		}
		if at := columns.Times[row]; n == 0 || at >= start+step {
			end()
			start, n = floor(at, step), 0
		}
		n++
		for i, merge := range c.of.Merges {
			v := number(columns, c.in.Values[i], int(row))
			if n > 1 {
				v = merge.two(s.values[i], v)
			}
			s.values[i] = v
		}
	}
	if end(); w.n > 0 {
		c.write(&c.bodies[c.partition(key)], key)
	}
}

// steps is the open step of a key.
type steps struct {
	values []float64
	rows   []int32 // by member: one of its events
	n      []int64 // and how many there are
	known  []int32 // by number of the member: its index + 1
}

// members takes in how many events each member of a key has in each step, where that must be told.
func (c *collected) members(all *Collector, columns *event.Columns, key int, rows []int32) {
	s, w := &c.open, &c.entry
	w.begin(&c.Evidence)
	hashes := all.hashes.of(columns.Dict)
	c.recent.open(c.recent.key(hashes, c.keys, key))
	if len(s.known) < len(c.member.newest) {
		s.known = make([]int32, 2*len(c.member.newest))
	}
	var b *body
	part := 0
	var start int64
	end := func() {
		for i, row := range s.rows {
			s.known[c.member.of[row]] = 0
			if !c.recent.tells(c.rule, hashes.text(columns.Cells[c.in.Member][row]), start, s.n[i]) {
				continue
			}
			if b == nil {
				part = c.partition(key)
				b = &c.bodies[part]
			}
			w.time(start)
			w.text(c.member.index(b.texts, part, row))
			w.events(s.n[i])
		}
		s.rows, s.n = s.rows[:0], s.n[:0]
	}
	for _, row := range rows {
		if c.in.Where >= 0 && columns.Cells[c.in.Where][row] == 0 {
			continue
		}
		if at := columns.Times[row]; len(s.rows) == 0 || at >= start+c.unit {
			end()
			start = floor(at, c.unit)
		}
		known := &s.known[c.member.of[row]]
		if *known == 0 {
			s.rows, s.n = append(s.rows, row), append(s.n, 0)
			*known = int32(len(s.rows)) //nolint:gosec // rows of a batch
		}
		s.n[*known-1]++
	}
	end()
	c.recent.close()
	c.write(b, key)
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
