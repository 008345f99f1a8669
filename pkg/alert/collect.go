package alert

import (
	"encoding/binary"
	"slices"

	"weir/pkg/event"
)

// Collector reduces batches to their evidence. It belongs to one goroutine.
type Collector struct {
	keys  []*numbered
	cases []*collected
	texts [Partitions]texts
}

// numbered are the keys of a stream's events, for all cases that have the same. They are numbered
// once a batch: most of what evidence costs is to find an event's key.
type numbered struct {
	stream     string
	attributes []int

	tuples  tuples
	of      []int32 // by row
	newest  []int32 // by key: the row of its newest event
	columns *event.Columns
}

// collected gathers what concerns one case.
type collected struct {
	rule *Rule
	of   *Case
	keys []*numbered // by input

	bounds *Bounds // that stand in place of the rule's
	bodies [Partitions]body
	placed []place // by key
	open   steps   // items of more than one event
	texts  []string
	recent *recent // of what may be unseen
	states states
}

// place is where a key of the batch is in the evidence; part -1: nowhere yet.
type place struct {
	part    int8
	index   int32
	bounded bool // bound is known
	bound   bound
}

// NewCollector returns a collector for the rules that are global.
func NewCollector(rules []*Rule) *Collector {
	c := &Collector{}
	for _, rule := range rules {
		for i := range rule.Cases {
			if !rule.Global {
				continue
			}
			of := &collected{rule: rule.by(&rule.Cases[i]), of: &rule.Cases[i]}
			if of.rule.Type == Unseen {
				of.recent = newRecent()
			}
			for p := range of.bodies {
				of.bodies[p].texts = &c.texts[p]
			}
			for _, in := range of.of.Inputs {
				of.keys = append(of.keys, c.numbered(in))
			}
			c.cases = append(c.cases, of)
		}
	}
	return c
}

// SetThresholds lets the thresholds stand in place of those that were set before, from the next
// Collect on. nil is none.
func (c *Collector) SetThresholds(thresholds *Thresholds) {
	for _, of := range c.cases {
		of.bounds = thresholds.For(of.rule.Name, of.of.Name)
	}
}

func (c *Collector) numbered(in Input) *numbered {
	for _, k := range c.keys {
		if k.stream == in.Stream && slices.Equal(k.attributes, in.Keys) {
			return k
		}
	}
	k := &numbered{stream: in.Stream, attributes: in.Keys}
	c.keys = append(c.keys, k)
	return k
}

// ordered reports whether the order of a key's events decides.
func (t Type) ordered() bool { return t == Transition || t == Run || t == Interval }

// Commit says that what the last Collect returned is committed.
func (c *Collector) Commit() {
	for _, of := range c.cases {
		if of.recent != nil {
			of.recent.commit()
		}
	}
}

// Collect returns the batch's evidence, encoded, by partition; nil for none. Events marked
// Dropped are passed over. All columns share one dictionary. What the last Collect returned and was not
// committed is taken back.
func (c *Collector) Collect(batch []*event.Columns) (bodies [Partitions][]byte) {
	for _, of := range c.cases {
		if of.recent != nil {
			of.recent.begin()
		}
	}
	for _, columns := range batch {
		for _, k := range c.keys {
			k.columns = nil
		}
		for _, of := range c.cases {
			for i := range of.of.Inputs {
				if in := &of.of.Inputs[i]; in.Stream == columns.Schema.Name {
					of.gather(columns, in, of.keys[i])
				}
			}
		}
	}
	for p := range bodies {
		bodies[p] = c.body(p)
	}
	for _, of := range c.cases {
		of.reset()
	}
	return bodies
}

// body is the evidence of one partition, and forgets its texts.
func (c *Collector) body(p int) []byte {
	texts := &c.texts[p]
	defer texts.reset()
	some, size := 0, 0
	for _, of := range c.cases {
		if b := &of.bodies[p]; b.n > 0 {
			some++
			size += len(b.keys) + len(b.items) + 32
			b.name = [2]int32{texts.text(of.rule.Name), texts.text(of.of.Name)}
		}
	}
	if some == 0 {
		return nil
	}
	to := append(make([]byte, 0, size+len(texts.all)+16), evidenceVersion)
	to = append(binary.AppendUvarint(to, uint64(texts.n)), texts.all...) //nolint:gosec // a count
	to = binary.AppendUvarint(to, uint64(some))                          //nolint:gosec // few cases
	for _, of := range c.cases {
		if b := &of.bodies[p]; b.n > 0 {
			to = of.append(to, b)
		}
	}
	return to
}

// number numbers the keys of all events, the first time that it is asked for them.
func (k *numbered) number(columns *event.Columns) {
	if k.columns == columns {
		return
	}
	k.columns = columns
	k.tuples.reset(max(1, len(k.attributes)))
	k.of, k.newest = k.of[:0], k.newest[:0]
	tuple := make([]uint64, max(1, len(k.attributes)))
	cells := make([][]event.Cell, len(k.attributes))
	for i, attribute := range k.attributes {
		cells[i] = columns.Cells[attribute]
	}
	for row, at := range columns.Times {
		for i := range cells {
			tuple[i] = uint64(cells[i][row]) //nolint:gosec // a word
		}
		n, fresh := k.tuples.number(tuple)
		if fresh {
			k.newest = append(k.newest, int32(row)) //nolint:gosec // rows of a batch
		} else if at >= columns.Times[k.newest[n]] {
			k.newest[n] = int32(row) //nolint:gosec // rows of a batch
		}
		k.of = append(k.of, n)
	}
}

// gather takes in the events of one stream.
func (c *collected) gather(columns *event.Columns, in *Input, k *numbered) {
	if c.rule.Unset && c.bounds == nil || c.rule.Type == PerEvent && !c.breaks(columns, in) {
		return
	}
	k.number(columns)
	c.placed = c.placed[:0]
	for range k.newest {
		c.placed = append(c.placed, place{part: -1})
	}
	if c.rule.Type.ordered() {
		c.gatherOrdered(columns, in, k)
	} else {
		c.gatherSteps(columns, in, k)
	}
}

// breaks reports whether any event breaks the loosest bound: in most batches none does.
func (c *collected) breaks(columns *event.Columns, in *Input) bool {
	loosest := c.loosest()
	for row := range columns.Times {
		if c.rule.beyond(number(columns, in.Values[0], row), loosest) {
			return true
		}
	}
	return false
}

// loosest is a bound that every event breaks that breaks its key's.
func (c *collected) loosest() float64 {
	if c.bounds != nil {
		return c.bounds.loosest
	}
	return c.rule.Threshold
}

// bound is that of a key, and whether it has one.
func (c *collected) bound(k *numbered, key int32) (float64, bool) {
	if c.bounds == nil {
		return c.rule.Threshold, !c.rule.Unset
	}
	at := &c.placed[key]
	if !at.bounded {
		at.bounded = true
		if at.bound.value, at.bound.found = c.bounds.For(c.parts(k, key)); !at.bound.found && !c.rule.Unset {
			at.bound = bound{c.rule.Threshold, true}
		}
	}
	return at.bound.value, at.bound.found
}

// beyond reports whether a value breaks the bound.
func (r *Rule) beyond(value, bound float64) bool {
	if r.Below {
		return value < bound
	}
	return value > bound
}

// gatherOrdered takes in each event by itself.
func (c *collected) gatherOrdered(columns *event.Columns, in *Input, k *numbered) {
	c.states.begin(len(in.States))
	for row, dropped := range columns.Dropped {
		if dropped || in.Where >= 0 && columns.Cells[in.Where][row] == 0 {
			continue
		}
		b, index := c.place(k, k.of[row])
		b.items = binary.AppendUvarint(b.items, uint64(index)) //nolint:gosec // an index
		b.time(columns.Times[row])
		if in.Member >= 0 {
			b.text(columns.Dict, columns.Cells[in.Member][row])
		}
		if len(in.States) > 0 {
			b.items = binary.AppendUvarint(b.items, uint64(c.states.index(b.texts, c.placed[k.of[row]].part, columns, in.States, row))+1) //nolint:gosec // an index
		}
		hit := in.Hit >= 0 && columns.Cells[in.Hit][row] != 0
		b.order(columns.Sequences[row], columns.Offsets[row], hit)
		b.n++
	}
}

// place is where a key goes, and its index there.
func (c *collected) place(k *numbered, key int32) (*body, int32) {
	at := c.placed[key]
	if at.part < 0 {
		at.part = int8(partition(c.rule.Name, c.of.Name, c.parts(k, key))) //nolint:gosec // few
		b := &c.bodies[at.part]
		at.index = int32(b.keyed) //nolint:gosec // at most the rows of a batch
		c.writeKey(b, k, key)
		b.keyed++
		c.placed[key].part, c.placed[key].index = at.part, at.index
	}
	return &c.bodies[at.part], at.index
}

// parts is a key as texts, which is how it is known outside of the batch.
func (c *collected) parts(k *numbered, key int32) []string {
	row, in := int(k.newest[key]), c.input(k)
	c.texts = c.texts[:0]
	for i, part := range c.of.Key {
		part.Attribute = in.Keys[i]
		c.texts = append(c.texts, cellText(k.columns, part, row))
	}
	return c.texts
}

// writeKey writes the indexes of a key's texts, and of those of its details.
func (c *collected) writeKey(b *body, k *numbered, key int32) {
	row, in := int(k.newest[key]), c.input(k)
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
		b.keys = binary.AppendUvarint(b.keys, uint64(n)) //nolint:gosec // an index
	}
	for _, attribute := range in.Keys {
		write(attribute, true)
	}
	for _, attribute := range in.Details {
		write(attribute, false)
	}
}

func (c *collected) input(k *numbered) *Input {
	return &c.of.Inputs[slices.Index(c.keys, k)]
}

func (c *collected) reset() {
	for p := range c.bodies {
		c.bodies[p].reset()
	}
}

// append writes the evidence of one partition.
func (c *collected) append(to []byte, b *body) []byte {
	for _, name := range b.name {
		to = binary.AppendUvarint(to, uint64(name)) //nolint:gosec // an index
	}
	to = binary.AppendUvarint(to, uint64(b.keyed))                                   //nolint:gosec // a count
	to = append(append(to, byte(len(c.of.Key)), byte(len(c.of.Details))), b.keys...) //nolint:gosec // few
	var has byte
	if in := c.of.Inputs[0]; in.Member >= 0 {
		has |= haveMembers
	}
	if in := c.of.Inputs[0]; len(in.States) > 0 {
		has |= haveStates
	}
	if c.rule.Type.ordered() {
		has |= haveOrder
	}
	to = append(to, has, byte(len(c.of.Merges)))       //nolint:gosec // few
	to = binary.AppendUvarint(to, uint64(max(0, b.n))) //nolint:gosec // a count
	return append(to, b.items...)
}
