package alert

import (
	"encoding/binary"
	"slices"

	"weir/pkg/event"
)

// Collector reduces batches to their evidence. It belongs to one goroutine.
//
// Events are put in order and grouped by key once for all rules that have the same; then each rule goes through the
// events of one key after another.
type Collector struct {
	order  order
	keys   []*numbered
	cases  []*collected
	texts  [Partitions]texts
	hashes hashes
}

// collected gathers the events of one input of a case, or of several cases that differ only in which of them match.
type collected struct {
	Evidence // what is the same for all keys of the batch

	rule *Rule
	of   *Case // the first
	in   *Input
	hits []int // of each case: the attribute that says whether an event matches
	keys *numbered

	bounds *Bounds // that stand in place of the rule's
	bodies [Partitions]body
	entry  entry
	open   steps // of a key
	texts  []string
	recent *recent // of what may be unseen
	member *spelled
	state  *spelled
}

// NewCollector returns a collector for the rules that are global.
func NewCollector(rules []*Rule) *Collector {
	c := &Collector{hashes: newHashes()}
	for _, rule := range rules {
		for i := range rule.Cases {
			of := &rule.Cases[i]
			for at := range of.Inputs {
				if rule.Global && !c.joins(rule.by(of), of, &of.Inputs[at]) {
					c.add(rule.by(of), of, &of.Inputs[at])
				}
			}
		}
	}
	return c
}

// joins reports whether a case of a run can be, and then is, gathered with one before it.
func (c *Collector) joins(rule *Rule, of *Case, in *Input) bool {
	if rule.Type != Run {
		return false
	}
	for _, before := range c.cases {
		b := before.in
		if before.Rule == rule.Name && b.Stream == in.Stream && b.Where == in.Where && slices.Equal(b.Keys, in.Keys) && slices.Equal(b.Details, in.Details) {
			before.Cases, before.hits = append(before.Cases, of.Name), append(before.hits, in.Hit)
			return true
		}
	}
	return false
}

func (c *Collector) add(rule *Rule, of *Case, in *Input) {
	d := &collected{rule: rule, of: of, in: in, hits: []int{in.Hit}, keys: c.numbered(in.Stream, in.Keys)}
	d.Rule, d.Cases = rule.Name, []string{of.Name}
	d.form = form{has: rule.has(), width: len(of.Merges)}
	if rule.Type == Unseen {
		d.recent = newRecent()
	}
	if d.has&haveMembers != 0 {
		d.member = &spelled{numbered: c.numbered(in.Stream, []int{in.Member})}
	}
	if d.has&haveStates != 0 {
		d.state = &spelled{numbered: c.numbered(in.Stream, in.States)}
	}
	for p := range d.bodies {
		d.bodies[p].texts = &c.texts[p]
	}
	c.cases = append(c.cases, d)
}

// SetThresholds lets the thresholds stand in place of those that were set before, from the next
// Collect on. nil is none.
func (c *Collector) SetThresholds(thresholds *Thresholds) {
	for _, of := range c.cases {
		of.bounds = thresholds.For(of.rule.Name, of.of.Name)
	}
}

func (c *Collector) numbered(stream string, attributes []int) *numbered {
	for _, k := range c.keys {
		if k.stream == stream && slices.Equal(k.attributes, attributes) {
			return k
		}
	}
	k := &numbered{stream: stream, attributes: attributes}
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
		c.order.begin(columns)
		for _, k := range c.keys {
			k.columns, k.wanted = nil, false
		}
		for _, of := range c.cases {
			of.keys.wanted = of.keys.wanted || of.gathers() && of.rule.Type != PerEvent
		}
		for _, of := range c.cases {
			if of.in.Stream == columns.Schema.Name {
				of.gather(c, columns)
			}
		}
	}
	for p := range bodies {
		bodies[p] = c.body(p)
	}
	for _, of := range c.cases {
		for p := range of.bodies {
			of.bodies[p].reset()
		}
	}
	return bodies
}

// body is the evidence of one partition, and forgets its texts.
func (c *Collector) body(p int) []byte {
	texts := &c.texts[p]
	defer texts.reset()
	some, size := 0, 0
	for _, of := range c.cases {
		if b := &of.bodies[p]; b.keys > 0 {
			some++
			size += len(b.entries) + 64
			b.name(of.Rule, of.Cases)
		}
	}
	if some == 0 {
		return nil
	}
	to := append(make([]byte, 0, size+len(texts.all)+16), evidenceVersion)
	to = append(binary.AppendUvarint(to, uint64(texts.n)), texts.all...) //nolint:gosec // a count
	to = binary.AppendUvarint(to, uint64(some))                          //nolint:gosec // few cases
	for _, of := range c.cases {
		if b := &of.bodies[p]; b.keys > 0 {
			to = of.appendHead(to, b.names[0], b.names[1:], len(of.of.Key), len(of.of.Details), b.keys)
			to = append(to, b.entries...)
		}
	}
	return to
}

// gather takes in the events of one stream.
func (c *collected) gather(all *Collector, columns *event.Columns) {
	if !c.gathers() || c.rule.Type == PerEvent && !c.breaks(columns, c.in) {
		return
	}
	all.order.sort()
	k := c.keys
	k.number(columns, &all.order, all.keys)
	if k.group(&all.order); len(k.rows) == 0 {
		return
	}
	for _, s := range []*spelled{c.member, c.state} {
		if s != nil {
			s.number(columns, &all.order, all.keys)
			s.begin()
		}
	}
	step := max(1, c.rule.Step.Microseconds())
	c.unit, c.base = all.order.unit, position{at: all.order.first}
	if c.rule.Type.ordered() {
		c.base.sequence = columns.Sequences[k.rows[0]]
	} else {
		c.unit, c.base.at = step, floor(all.order.first, step)
	}
	for key := range k.newest {
		rows := k.rowsOf(key)
		switch bound, ok := c.bound(k, key); {
		case len(rows) == 0 || c.rule.Unset && !ok:
		case c.rule.Type.ordered():
			c.events(columns, key, rows)
		case c.member != nil:
			c.members(all, columns, key, rows)
		default:
			c.sums(columns, key, rows, bound)
		}
	}
}

// gathers reports whether there can be anything to gather.
func (c *collected) gathers() bool { return !c.rule.Unset || c.bounds != nil }

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
func (c *collected) bound(k *numbered, key int) (float64, bool) {
	if c.bounds != nil {
		if value, found := c.bounds.For(c.parts(k, key)); found {
			return value, true
		}
	}
	return c.rule.Threshold, !c.rule.Unset
}

// beyond reports whether a value breaks the bound.
func (r *Rule) beyond(value, bound float64) bool {
	if r.Below {
		return value < bound
	}
	return value > bound
}
