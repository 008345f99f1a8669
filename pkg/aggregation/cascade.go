package aggregation

import (
	"fmt"
	"math"
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
// That is how its memory is bounded: a level can be left behind ([Cascade.Shrink]),
// and is then given what it lacks from those rows, a part at a time
// ([Cascade.PrepareTail]). It belongs to one goroutine.
type Cascade struct {
	dict   *event.Dictionary
	guard  *Guard
	levels []*cascadeLevel     // of all aggregations, in the order of definition, finer before coarser
	texts  recent[translation] // takes over those of the deltas' dictionaries
	texted int                 // how many texts were left when some were last forgotten
	tailed bool                // the last flush was of a tail
	slabs  columnSlabs         // what the last flush is made of
}

type cascadeLevel struct {
	parent *cascadeLevel // nil: the finest level
	table  *table
	behind bool // nothing is held for it, but for a part of its tail that is being flushed
}

func (l *cascadeLevel) name() FlushedLevel { return FlushedLevel{l.table.def, l.table.level} }

// lacks is how many groups a flush has for the level at most: what is held for it, and
// what it gets from its parent, which is flushed with it.
func (l *cascadeLevel) lacks() (groups int) {
	for ; l != nil; l = l.parent {
		groups += l.table.len()
	}
	return groups
}

// blocked reports whether the level, or one that it is folded from, is behind:
// what is held for it is not all that it lacks.
func (l *cascadeLevel) blocked() bool {
	for ; l != nil; l = l.parent {
		if l.behind {
			return true
		}
	}
	return false
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
			own[g] = &cascadeLevel{parent: own[parent], table: newTable(def, g, c.dict, guard)}
			c.levels = append(c.levels, own[g])
		}
	}
	return c
}

// Add takes in a delta of the finest level. Which groups are admitted for it the
// guard knows once it is told that the delta is committed; if that is not, the cascade
// is of no use any more.
func (c *Cascade) Add(delta Delta) {
	for _, l := range c.levels {
		if l.parent == nil && !l.behind {
			must(c.merge(l.table, &delta))
		}
	}
	c.compact()
}

// merge adds to a table what the delta has of its aggregation.
func (c *Cascade) merge(t *table, delta *Delta) error {
	return t.merge(delta, c.guard.hasher, c.translation(delta.Dict))
}

// mergeCommitted is merge of what is committed at a finer level.
func (c *Cascade) mergeCommitted(t *table, delta *Delta) error {
	err := c.merge(t, delta)
	if t.gate != nil {
		t.gate.commit()
	}
	return err
}

// translation returns that of a dictionary's texts, nil for the cascade's own.
func (c *Cascade) translation(from *event.Dictionary) *translation {
	if from == c.dict || from == nil {
		return nil
	}
	t := c.texts.of(from)
	t.from, t.to = from, c.dict
	t.grow()
	return t
}

// AddTail takes in rows of the level's parent that the level does not have:
// after a start, what is past its watermark, in as many deltas as it takes; it
// keeps nothing of them. Sketches that are corrupted are an error; the cascade is
// of no use after it.
func (c *Cascade) AddTail(level Granularity, tail Delta) error {
	for _, l := range c.levels {
		if l.table.level != level {
			continue
		}
		if err := c.mergeCommitted(l.table, &tail); err != nil {
			return err
		}
	}
	c.compact()
	return nil
}

// Flush is what some levels are to be given, all at once.
type Flush struct {
	// Delta holds their rows, level by level.
	Delta Delta
	// Levels lists what will be complete, also where there is nothing to write.
	Levels []FlushedLevel
	// Complete says that no level which is due was left for another flush.
	Complete bool
	// Tail says that this is a part of what one level lacked that is behind: with
	// it the level has everything up to batch Upto. CaughtUp: which is all that its
	// parent has.
	Tail, CaughtUp bool
	Upto           int64
	of             map[*cascadeLevel]span // of Delta.Parts
}

// parts returns what the flush gives a level; nothing for one that it leaves.
func (f *Flush) parts(l *cascadeLevel) Delta {
	of := f.of[l]
	return Delta{Parts: f.Delta.Parts[of.from:of.to], Dict: f.Delta.Dict, hasher: f.Delta.hasher}
}

// FlushedLevel names one level of one aggregation.
type FlushedLevel struct {
	Definition *Definition
	Level      Granularity
}

// Prepare returns what has to be written so that every level that is due has
// all that was added. A level's parent is flushed with it. The cascade is not
// changed: a flush that is not committed can be forgotten. It holds until the
// next one that has anything is prepared.
func (c *Cascade) Prepare(due func(Granularity) bool) *Flush {
	return c.PrepareSome(func(l FlushedLevel) bool { return due(l.Level) }, math.MaxInt)
}

// PrepareSome is Prepare for as many of the levels that are due, in their order,
// as have about so many groups together, by [Definition.Weight]: at least one
// that has any. A level is flushed as a whole.
func (c *Cascade) PrepareSome(due func(FlushedLevel) bool, groups int) *Flush {
	f := &Flush{Delta: Delta{Dict: c.dict, hasher: c.guard.hasher}, Complete: true}
	wanted := map[*cascadeLevel]bool{}
	for _, l := range c.levels {
		if wanted[l] || !due(l.name()) {
			continue
		}
		if groups <= 0 || l.blocked() {
			f.Complete = false
			continue
		}
		for ; l != nil && !wanted[l]; l = l.parent {
			wanted[l] = true
			groups -= l.lacks() * l.table.def.Weight(l.table.level)
		}
	}
	if len(wanted) == 0 {
		return f
	}
	c.slabs.reset()
	f.of = make(map[*cascadeLevel]span, len(wanted))
	for _, l := range c.levels {
		if !wanted[l] {
			continue
		}
		t := l.table
		if parents := f.parts(l.parent); len(parents.Parts) > 0 {
			t = t.clone()
			must(c.mergeCommitted(t, &parents))
		}
		c.put(f, l, t)
	}
	return f
}

// put makes the flush give a level the groups of a table.
func (c *Cascade) put(f *Flush, l *cascadeLevel, t *table) {
	from := len(f.Delta.Parts)
	f.Delta.Parts = t.pack(f.Delta.Parts, &c.slabs)
	f.of[l] = span{from, len(f.Delta.Parts)}
	f.Delta.Other = t.others(f.Delta.Other)
	f.Levels = append(f.Levels, l.name())
}

// Commit says that the flush is committed: what it wrote is now for the next
// coarser levels to get.
func (c *Cascade) Commit(f *Flush) {
	c.tailed = f.Tail
	if len(f.of) == 0 {
		return
	}
	for _, l := range c.levels {
		if _, flushed := f.of[l]; flushed {
			l.table.reset()
			l.behind = f.Tail && !f.CaughtUp
		} else if parents := f.parts(l.parent); len(parents.Parts) > 0 && !l.behind {
			must(c.mergeCommitted(l.table, &parents))
		}
	}
	c.compact()
}

// Empty reports whether every level has everything.
func (c *Cascade) Empty() bool {
	return !slices.ContainsFunc(c.levels, func(l *cascadeLevel) bool { return l.behind || l.table.len() > 0 })
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
	if c.dict.Len() < max(worthwhile, 2*c.texted) || c.dict.Len() < 4*c.Groups() {
		return
	}
	c.renew()
	c.texted = c.dict.Len()
}

// renew gives the cascade a dictionary of the texts that its groups have.
func (c *Cascade) renew() {
	texts := translation{from: c.dict, to: event.NewDictionary()}
	texts.grow()
	for _, l := range c.levels {
		l.table.translate(&texts)
	}
	c.dict, c.texts = texts.to, nil
}

// translate takes the table's texts over into another dictionary; groups are
// found by what their texts are, as before.
func (t *table) translate(texts *translation) {
	t.speak(texts.to)
	for i := range t.len() {
		row := t.row(i)
		for _, at := range t.keys {
			at.translate(row, texts)
		}
		for k, at := range t.measures {
			if row[atMissing]&MissingBit(k) == 0 {
				at.translate(row, texts)
			}
		}
	}
}

func (p place) translate(row []event.Cell, texts *translation) {
	switch v := texts.cell; p.text {
	case lower:
		row[p.at] = row[p.at]&^math.MaxUint32 | v(p.get(row))
	case upper:
		row[p.at] = row[p.at]&math.MaxUint32 | v(p.get(row))<<32
	case whole:
	}
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
