package aggregation

import (
	"fmt"
	"maps"
	"slices"

	"weir/pkg/event"
)

// Parent returns the level that a coarser level is folded from: the coarsest
// of the finer ones whose buckets it is made of. The finest has none.
func (d *Definition) Parent(level Granularity) (Granularity, bool) {
	for _, fine := range slices.Backward(d.Granularities) {
		if fine.Nests(level) {
			return fine, true
		}
	}
	return 0, false
}

// Cascade holds what the coarser levels of one shard do not have yet: for each
// level, what its parent has got since the level was last flushed. It is only
// a cache: all of it can be read again from the rows of the parents (AddTail).
// It belongs to one goroutine.
type Cascade struct {
	dict   *event.Dictionary
	guard  *Guard
	levels []*cascadeLevel // of all aggregations, in the order of definition, finer before coarser
}

type cascadeLevel struct {
	parent *cascadeLevel // nil: the finest level
	table  *table
}

// NewCascade returns a cascade with nothing in it. The guard is the shard's; nil
// is one that has seen nothing.
func NewCascade(defs []*Definition, guard *Guard) *Cascade {
	if guard == nil {
		guard = NewGuard()
	}
	c := &Cascade{dict: event.NewDictionary(), guard: guard}
	for _, def := range defs {
		own := map[Granularity]*cascadeLevel{}
		for _, g := range def.Granularities[1:] {
			parent, _ := def.Parent(g)
			own[g] = &cascadeLevel{parent: own[parent], table: c.newTable(def, g)}
			c.levels = append(c.levels, own[g])
		}
	}
	return c
}

func (c *Cascade) newTable(def *Definition, level Granularity) *table {
	t := newMergeTable(def, level)
	t.gate = c.guard.gate(def, level, c.dict)
	return t
}

// Add takes in a delta that is committed at the finest level.
func (c *Cascade) Add(delta Delta) {
	byDef := map[*Definition][]Part{}
	for _, p := range delta.Parts {
		byDef[p.Definition] = append(byDef[p.Definition], p)
	}
	for _, l := range c.levels {
		if l.parent == nil {
			must(l.table.merge(byDef[l.table.def], delta.Dict, c.dict))
		}
	}
	c.compact()
}

// AddTail takes in rows of the level's parent that the level does not have:
// after a start, what is past its watermark. Sketches that are corrupted are an
// error; the cascade is of no use after it.
func (c *Cascade) AddTail(level Granularity, tail Delta) error {
	for _, l := range c.levels {
		if l.table.level != level {
			continue
		}
		for _, p := range tail.Parts {
			if p.Definition == l.table.def {
				if err := l.table.merge([]Part{p}, tail.Dict, c.dict); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Flush is what some levels are to be given, all at once.
type Flush struct {
	// Delta holds their rows, level by level.
	Delta Delta
	// Levels lists what will be complete, also where there is nothing to write.
	Levels []FlushedLevel
	of     map[*cascadeLevel][]Part
}

// FlushedLevel names one level of one aggregation.
type FlushedLevel struct {
	Definition *Definition
	Level      Granularity
}

// Prepare returns what has to be written so that every level that is due has
// all that was added. A level's parent is flushed with it. The cascade is not
// changed: a flush that is not committed can be forgotten.
func (c *Cascade) Prepare(due func(Granularity) bool) *Flush {
	f := &Flush{Delta: Delta{Dict: c.dict}, of: map[*cascadeLevel][]Part{}}
	wanted := map[*cascadeLevel]bool{}
	for _, l := range c.levels {
		if due(l.table.level) {
			for ; l != nil; l = l.parent {
				wanted[l] = true
			}
		}
	}
	for _, l := range c.levels {
		if !wanted[l] {
			continue
		}
		t := l.table
		if parts := f.of[l.parent]; l.parent != nil && len(parts) > 0 {
			t = t.clone()
			must(t.merge(parts, c.dict, c.dict))
		}
		f.of[l] = t.pack(nil)
		f.Delta.Parts = append(f.Delta.Parts, f.of[l]...)
		f.Delta.Other = t.others(f.Delta.Other)
		f.Levels = append(f.Levels, FlushedLevel{t.def, t.level})
	}
	return f
}

// Commit says that the flush is committed: what it wrote is now for the next
// coarser levels to get.
func (c *Cascade) Commit(f *Flush) {
	for _, l := range c.levels {
		if _, flushed := f.of[l]; flushed {
			l.table = c.newTable(l.table.def, l.table.level)
		} else if parts := f.of[l.parent]; l.parent != nil {
			must(l.table.merge(parts, f.Delta.Dict, c.dict))
		}
	}
	c.compact()
}

// Empty reports whether every level has everything.
func (c *Cascade) Empty() bool {
	return !slices.ContainsFunc(c.levels, func(l *cascadeLevel) bool { return l.table.len() > 0 })
}

// Groups returns the number of groups held, over all levels.
func (c *Cascade) Groups() (n int) {
	for _, l := range c.levels {
		n += l.table.len()
	}
	return n
}

// compact forgets the texts of groups that were flushed, once most are.
func (c *Cascade) compact() {
	const worthwhile = 1 << 16
	if c.dict.Len() < worthwhile || c.dict.Len() < 4*c.Groups() {
		return
	}
	old := c.dict
	c.dict = event.NewDictionary()
	for _, l := range c.levels {
		t := newMergeTable(l.table.def, l.table.level) // admits what was admitted
		must(t.merge(l.table.pack(nil), old, c.dict))
		if l.table.gate != nil {
			t.gate = c.guard.gate(t.def, t.level, c.dict)
			t.gate.events = l.table.gate.events
		}
		l.table = t
	}
}

// merge adds the groups of parts of the same aggregation, at the same level or
// a finer one that nests in it, and takes over their texts.
func (t *table) merge(parts []Part, from, to *event.Dictionary) error {
	take := func(kind event.Kind, cell event.Cell) event.Cell {
		if kind == event.String && from != to {
			return to.Intern(from.Text(cell))
		}
		return cell
	}
	x := contribution{measures: make([]event.Cell, len(t.def.Measures)), blocks: make([][]byte, len(t.def.Measures))}
	for _, p := range parts {
		t.probe[0] = event.Cell(t.level.Truncate(p.Bucket, t.def.Zone))
		for i := range p.Len() {
			for k, key := range t.def.Keys {
				t.probe[1+k] = take(key.Kind, p.Keys[k][i])
			}
			t.takeMeasures(&x, &p, i, take)
			if t.missing > 0 {
				t.probe[t.missing] = p.missing(i)
			}
			x.events, x.checksum = p.Events[i], p.Checksums[i]
			if p.FirstTime != nil {
				x.first = moment{p.FirstTime[i], p.FirstSequence[i]}
			}
			if p.LastTime != nil {
				x.last = moment{p.LastTime[i], p.LastSequence[i]}
			}
			if err := t.put(&x); err != nil {
				return err
			}
		}
	}
	if t.gate != nil {
		t.gate.commit() // what is merged is committed at a finer level
	}
	return nil
}

// takeMeasures makes what group i of the part has of each measure that of x. Of
// what is missing there is nothing to take: its cells are of no meaning, and a
// text among them is in no dictionary.
func (t *table) takeMeasures(x *contribution, p *Part, i int, take func(event.Kind, event.Cell) event.Cell) {
	missing := p.missing(i)
	for k, m := range t.def.Measures {
		x.measures[k], x.blocks[k] = 0, nil
		switch {
		case !m.Stored() || missing&MissingBit(k) != 0:
		case m.Sketched():
			x.blocks[k] = p.Sketches[k][i]
		default:
			x.measures[k] = take(m.ArgKind, p.Measures[k][i])
		}
	}
}

// must stands for what cannot fail: sketches that this process encoded can be
// decoded.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// clone returns a table of the same groups that can be added to by itself.
func (t *table) clone() *table {
	c := *t
	c.rows, c.slots, c.probe = slices.Clone(t.rows), slices.Clone(t.slots), slices.Clone(t.probe)
	if t.gate != nil {
		gate := *t.gate
		gate.events = maps.Clone(gate.events)
		c.gate = &gate
	}
	c.sketches = make([]sketch, len(t.sketches))
	for k, m := range t.def.Measures {
		if !m.Sketched() || !m.Stored() {
			continue
		}
		for i := range t.len() {
			at := t.row(i)[t.width+1+k]
			c.sketches[at] = newSketch(m.Op)
			must(mergeBlocks(c.sketches[at], encode(t.sketches[at])))
		}
	}
	return &c
}

// CheckLevels checks that every level but the finest can be folded from
// another. The levels are ordered, finest first.
func CheckLevels(levels []Granularity) error {
	def := Definition{Granularities: levels}
	for i, g := range levels {
		if _, ok := def.Parent(g); i > 0 && !ok {
			return fmt.Errorf("%s are not made of whole %s: keep a finer level that divides them", g, levels[i-1])
		}
	}
	return nil
}
