package alert

import (
	"slices"

	"weir/pkg/event"
)

// Collector reduces batches to their evidence. It belongs to one goroutine.
type Collector struct {
	cases []*caseCollector
}

// caseCollector gathers what concerns one case.
type caseCollector struct {
	rule  *Rule
	of    *Case
	step  int64 // microseconds; 0: items are events of a time of their own
	order bool  // items are single events whose order matters

	keys    tuples
	merged  tuples // key and step, and member where there is one, by item
	tuple   []uint64
	newest  []newest // by key: what its details are taken from
	items   []Item
	values  []float64
	texts   []event.Cell
	textOf  map[event.Cell]int32
	columns *event.Columns
	input   *Input
}

// newest is the event of a key that its details are taken from.
type newest struct {
	columns *event.Columns
	input   *Input
	row     int
}

// NewCollector returns a collector for the rules that are global.
func NewCollector(rules []*Rule) *Collector {
	c := &Collector{}
	for _, rule := range rules {
		if !rule.Global {
			continue
		}
		for i := range rule.Cases {
			of := &rule.Cases[i]
			by := rule.by(of)
			c.cases = append(c.cases, &caseCollector{
				rule: by, of: of, step: by.Step.Microseconds(), order: by.Type.ordered(), textOf: map[event.Cell]int32{},
			})
		}
	}
	return c
}

// ordered reports whether the order of a key's events decides.
func (t Type) ordered() bool { return t == Transition || t == Run || t == Interval }

// Collect returns the batch's evidence, encoded, by partition; nil for none. Events marked
// Dropped are passed over. All columns share one dictionary.
func (c *Collector) Collect(batch []*event.Columns) (bodies [Partitions][]byte) {
	var all [Partitions][]Evidence
	for _, of := range c.cases {
		of.reset()
		for _, columns := range batch {
			for i := range of.of.Inputs {
				if input := &of.of.Inputs[i]; input.Stream == columns.Schema.Name {
					of.columns, of.input = columns, input
					of.gather()
				}
			}
		}
		if len(of.items) > 0 {
			of.share(&all)
		}
	}
	for p := range all {
		bodies[p] = AppendEvidence(nil, all[p])
	}
	return bodies
}

func (c *caseCollector) reset() {
	c.keys.reset(max(1, len(c.of.Key)))
	c.merged.reset(3)
	c.newest, c.items, c.values, c.texts = c.newest[:0], c.items[:0], c.values[:0], c.texts[:0]
	clear(c.textOf)
}

// gather takes in the events of one stream.
func (c *caseCollector) gather() {
	columns, in := c.columns, c.input
	var where []event.Cell
	if in.Where >= 0 {
		where = columns.Cells[in.Where]
	}
	for row, dropped := range columns.Dropped {
		if dropped || where != nil && where[row] == 0 {
			continue
		}
		if c.rule.Type == PerEvent && !c.rule.beyond(number(columns, in.Values[0], row), c.rule.Threshold) {
			continue
		}
		c.add(row)
	}
}

// beyond reports whether a value breaks the bound.
func (r *Rule) beyond(value, bound float64) bool {
	if r.Below {
		return value < bound
	}
	return value > bound
}

func (c *caseCollector) add(row int) {
	key := c.key(row)
	at := c.columns.Times[row]
	item := Item{Key: key, Member: c.text(c.input.Member, row), State: -1, Time: at, N: 1}
	switch {
	case c.order:
		item.State = c.text(c.input.State, row)
		item.Hit = c.input.Hit >= 0 && c.columns.Cells[c.input.Hit][row] != 0
		item.Sequence, item.Offset = c.columns.Sequences[row], c.columns.Offsets[row]
	case c.step > 0:
		item.Time = floor(at, c.step)
		n, fresh := c.merged.number([]uint64{uint64(key), uint64(item.Time), uint64(item.Member + 1)}) //nolint:gosec // words
		if !fresh {
			c.items[n].N++
			c.merge(int(n), row)
			return
		}
	}
	c.items = append(c.items, item)
	for i := range c.of.Merges {
		c.values = append(c.values, number(c.columns, c.input.Values[i], row))
	}
}

// floor is the start of the step that a time is in.
func floor(at, step int64) int64 {
	start := at - at%step
	if at%step < 0 {
		start -= step
	}
	return start
}

// merge adds an event to an item.
func (c *caseCollector) merge(item, row int) {
	width := len(c.of.Merges)
	for i, merge := range c.of.Merges {
		v, of := number(c.columns, c.input.Values[i], row), &c.values[item*width+i]
		*of = merge.two(*of, v)
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

// key is the number of the event's key, whose details are the newest event's.
func (c *caseCollector) key(row int) int32 {
	c.tuple = c.tuple[:0]
	for _, attribute := range c.input.Keys {
		c.tuple = append(c.tuple, uint64(c.columns.Cells[attribute][row])) //nolint:gosec // a word
	}
	if len(c.input.Keys) == 0 {
		c.tuple = append(c.tuple, 0)
	}
	n, fresh := c.keys.number(c.tuple)
	if fresh {
		c.newest = append(c.newest, newest{c.columns, c.input, row})
	} else if last := &c.newest[n]; len(c.of.Details) > 0 && c.columns.Times[row] >= last.columns.Times[last.row] {
		*last = newest{c.columns, c.input, row}
	}
	return n
}

// text is the index of a text attribute's value.
func (c *caseCollector) text(attribute, row int) int32 {
	if attribute < 0 {
		return -1
	}
	cell := c.columns.Cells[attribute][row]
	n, ok := c.textOf[cell]
	if !ok {
		n = int32(len(c.texts)) //nolint:gosec // at most the rows of a batch
		c.textOf[cell] = n
		c.texts = append(c.texts, cell)
	}
	return n
}

// share deals the items out to the partitions of their keys.
func (c *caseCollector) share(all *[Partitions][]Evidence) {
	var of [Partitions]*Evidence
	where := make([]int8, c.keys.len())
	index := make([]int32, c.keys.len())
	for n := range where {
		key := c.keyTexts(n)
		p := partition(c.rule.Name, c.of.Name, key.Parts)
		if of[p] == nil {
			all[p] = append(all[p], Evidence{Rule: c.rule.Name, Case: c.of.Name, Width: len(c.of.Merges)})
			of[p] = &all[p][len(all[p])-1]
		}
		where[n], index[n] = int8(p), int32(len(of[p].Keys)) //nolint:gosec // few partitions; at most the rows of a batch
		of[p].Keys = append(of[p].Keys, key)
	}
	texts := make([][]int32, Partitions)
	for i := range c.items {
		item, p := c.items[i], where[c.items[i].Key]
		item.Key = index[item.Key]
		item.Member = c.share1(of[p], &texts[p], item.Member)
		item.State = c.share1(of[p], &texts[p], item.State)
		of[p].Items = append(of[p].Items, item)
		width := len(c.of.Merges)
		of[p].Values = append(of[p].Values, c.values[i*width:(i+1)*width]...)
	}
}

// share1 is the index that a text has in a partition's evidence.
func (c *caseCollector) share1(of *Evidence, known *[]int32, text int32) int32 {
	if text < 0 {
		return -1
	}
	if *known == nil {
		*known = slices.Repeat([]int32{-1}, len(c.texts))
	}
	if (*known)[text] < 0 {
		(*known)[text] = int32(len(of.Texts)) //nolint:gosec // at most the rows of a batch
		of.Texts = append(of.Texts, c.newest[0].columns.Dict.Text(c.texts[text]))
	}
	return (*known)[text]
}

// keyTexts is a key as texts, which is how it is known outside of the batch.
func (c *caseCollector) keyTexts(n int) EvidenceKey {
	last := c.newest[n]
	key := EvidenceKey{Parts: make([]string, len(c.of.Key)), Details: make([]string, len(c.of.Details))}
	for i, part := range c.of.Key {
		part.Attribute = last.input.Keys[i]
		key.Parts[i] = cellText(last.columns, part, last.row)
	}
	for i, attribute := range last.input.Details {
		kind := last.columns.Schema.Attributes[attribute].Kind
		key.Details[i] = clip(cellText(last.columns, KeyPart{Kind: kind, Attribute: attribute}, last.row))
	}
	return key
}
