package aggregation

import (
	"cmp"
	"slices"

	"weir/pkg/event"
)

// Held returns about how many bytes the cascade takes for what it holds.
func (c *Cascade) Held() int {
	held := heldBy(c.dict)
	for _, l := range c.levels {
		held += l.table.held()
	}
	return held
}

func heldBy(dict *event.Dictionary) int { return textSize*dict.Len() + dict.Bytes() }

// textSize is about what a text of a dictionary takes beside its bytes.
const textSize = 48

// held is about how many bytes the table takes.
func (t *table) held() int {
	held := cellSize * (cap(t.rows) + len(t.slots))
	for _, s := range t.sketches {
		held += s.held()
	}
	return held
}

const cellSize = 8

// Shrink leaves levels behind until what is held takes no more than half of so
// many bytes, if it takes more than all of them; those first for which the most is
// held. It is for the time when no flush is prepared.
func (c *Cascade) Shrink(bytes int) {
	if c.Held() <= bytes {
		return
	}
	sizes := map[*cascadeLevel]int{}
	for _, l := range c.levels {
		if l.table.len() == 0 {
			l.table.free()
		}
		sizes[l] = l.table.held()
	}
	held := c.Held()
	largest := slices.Clone(c.levels)
	slices.SortStableFunc(largest, func(a, b *cascadeLevel) int { return cmp.Compare(sizes[b], sizes[a]) })
	for _, l := range largest {
		if held <= bytes/2 {
			break
		}
		if l.table.len() > 0 {
			c.leave(l)
			held += l.table.held() - sizes[l]
		}
	}
	if held > bytes/2 { // that is texts
		c.renew()
	}
}

// Leave leaves a level behind: what it lacks is forgotten here, and is to be read
// from the rows of its parent.
func (c *Cascade) Leave(level FlushedLevel) { c.leave(c.find(level)) }

func (c *Cascade) leave(l *cascadeLevel) {
	l.behind = true
	l.table.free()
}

// free empties the table and gives its memory back.
func (t *table) free() {
	t.rows, t.sketches, t.slots, t.order = nil, nil, make([]uint64, leastSlots), ordering{}
	t.reset()
}

// Behind returns a level to be given a part of what it lacks: the first that is
// due and behind, or the one that it waits for. After such a part it is the turn of levels
// that are held, if any of these has something and is due.
func (c *Cascade) Behind(due func(FlushedLevel) bool) (level FlushedLevel, ok bool) {
	if c.tailed && slices.ContainsFunc(c.levels, func(l *cascadeLevel) bool { return l.table.len() > 0 && !l.blocked() && due(l.name()) }) {
		return FlushedLevel{}, false
	}
	for _, l := range c.levels {
		if !l.blocked() || !due(l.name()) {
			continue
		}
		for ; l != nil; l = l.parent {
			if l.behind {
				level = l.name()
			}
		}
		return level, true
	}
	return FlushedLevel{}, false
}

// BeginTail readies a level that is behind for a part of what it lacks, which
// AddTail then adds. What was added before and not committed is forgotten.
func (c *Cascade) BeginTail(level FlushedLevel) { c.find(level).table.reset() }

// PrepareTail returns what has to be written so that a level that is behind has
// all that its parent has up to a batch: what was added since BeginTail. As with
// Prepare, it can be forgotten.
func (c *Cascade) PrepareTail(level FlushedLevel, upto int64, caughtUp bool) *Flush {
	l := c.find(level)
	f := &Flush{Delta: Delta{Dict: c.dict, hasher: c.guard.hasher}, Tail: true, Upto: upto, CaughtUp: caughtUp, of: map[*cascadeLevel]span{}}
	c.slabs.reset()
	c.put(f, l, l.table)
	return f
}

// find returns the level of that name, which the cascade must have.
func (c *Cascade) find(level FlushedLevel) *cascadeLevel {
	return c.levels[slices.IndexFunc(c.levels, func(l *cascadeLevel) bool { return l.name() == level })]
}
