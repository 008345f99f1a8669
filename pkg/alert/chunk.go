package alert

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// moment is an event, or several of one step.
type moment struct {
	position
	n             int64
	member, state string // of the evidence, whose memory they hold
	hit           bool
}

// position is where an event is among all of its key.
type position struct {
	at       int64 // microseconds since 1970 UTC
	sequence uint64
	offset   int32
}

func (p position) compare(q position) int {
	switch {
	case p.at != q.at:
		return cmp.Compare(p.at, q.at)
	case p.sequence != q.sequence:
		return cmp.Compare(p.sequence, q.sequence)
	}
	return cmp.Compare(p.offset, q.offset)
}

// compare orders what happened, also where nothing says what came first.
func (m *moment) compare(o *moment) int {
	if c := m.position.compare(o.position); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(m.member, o.member), strings.Compare(m.state, o.state), cmp.Compare(flag(m.hit), flag(o.hit)))
}

// chunk is what one batch has of a key, from some item on. That item is decoded, those behind it are
// when they are asked for.
type chunk struct {
	moment // the first that is left

	of     *form
	left   int   // the first one included
	last   int64 // time of the last
	rest   reader
	hits   reader
	misses uint64 // before the next that matches; MaxUint64: no more does
	values []float64
}

// chunk reads a key's items for one of the evidence's cases. The values are put into memory that is given.
func (e *Evidence) chunk(key, of int, values []float64) chunk {
	i := &e.Keys[key].items
	c := chunk{of: &e.form, left: i.n + 1, last: i.last, rest: reader{rest: i.body}, misses: math.MaxUint64, values: values}
	c.at, c.sequence = i.first, e.base.sequence
	if i.hits != nil && len(i.hits[of]) > 0 {
		c.hits.rest = i.hits[of]
		c.misses = c.hits.uvarint()
	}
	c.next()
	return c
}

// own is the chunk with memory of its own, without texts and values.
func (c *chunk) own() chunk {
	owned := *c
	owned.of = &form{has: c.of.has, unit: c.of.unit}
	owned.rest.rest, owned.hits.rest = slices.Clone(c.rest.rest), slices.Clone(c.hits.rest)
	return owned
}

// matches reports whether anything that is left does.
func (c *chunk) matches() bool { return c.left > 0 && (c.hit || c.misses != math.MaxUint64) }

// next goes to the next item; false when there is none. What is broken ends there.
func (c *chunk) next() bool {
	if c.left--; c.left <= 0 {
		c.left = 0
		return false
	}
	r, has := &c.rest, c.of.has
	c.at += int64(r.uvarint()&math.MaxInt64) * c.of.unit //nolint:gosec // masked
	if has&haveMembers != 0 {
		c.member = c.text()
	}
	if has&haveStates != 0 {
		c.state = c.text()
	}
	if has&haveOrder != 0 {
		c.n = 1
		c.sequence += uint64(r.varint())              //nolint:gosec // wraps, as when it was written
		c.offset = int32(r.uvarint() & math.MaxInt32) //nolint:gosec // masked
	} else {
		c.n, c.sequence = int64(r.uvarint()&math.MaxInt64), 0 //nolint:gosec // masked
	}
	c.values = c.values[:0]
	for range c.of.width {
		c.values = append(c.values, r.number())
	}
	c.match()
	if r.failed {
		c.left = 0
	}
	return c.left > 0
}

// match finds out whether the item matches.
func (c *chunk) match() {
	c.hit = c.misses == 0
	switch {
	case c.misses == math.MaxUint64:
	case c.misses > 0:
		c.misses--
	case len(c.hits.rest) == 0:
		c.misses = math.MaxUint64
	default:
		c.misses = c.hits.uvarint()
	}
}

// text is a member or state; of an item that has none, none.
func (c *chunk) text() string {
	i := c.rest.index(len(c.of.texts) + 1)
	if i == 0 {
		return ""
	}
	return c.of.texts[i-1]
}

// merge takes what is in chunks up to a time, in order, and adds it to what was taken; chunks of which nothing is left are
// dropped.
func merge(chunks []chunk, through int64, taken []moment) ([]chunk, []moment) {
	for {
		first, second := -1, -1
		for i := range chunks {
			switch c := &chunks[i]; {
			case c.left == 0 || c.at > through:
			case first < 0 || c.position.compare(chunks[first].position) < 0:
				first, second = i, first
			case second < 0 || c.position.compare(chunks[second].position) < 0:
				second = i
			}
		}
		if first < 0 {
			break
		}
		c := &chunks[first]
		for more := true; more && c.at <= through && (second < 0 || c.position.compare(chunks[second].position) <= 0); more = c.next() {
			taken = append(taken, c.moment)
		}
	}
	left := chunks[:0]
	for i := range chunks {
		if chunks[i].left > 0 {
			left = append(left, chunks[i])
		}
	}
	clear(chunks[len(left):])
	return left, taken
}
