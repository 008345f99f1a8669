package event

import (
	"fmt"
	"math/bits"
	"strings"
)

// While events are read, Cells is longer than there are rows: the row behind the
// last one is open. It counts once it is complete.

// open begins to read events.
func (c *Columns) open() {
	for i := range c.Cells {
		c.Cells[i] = c.Cells[i][:max(c.room, len(c.Cells[i]))]
	}
	if c.known != c.Dict {
		c.learn()
	}
}

// learn interns what stands for attributes that are missing.
func (c *Columns) learn() {
	c.known, c.defaults = c.Dict, c.defaults[:0]
	for i := range c.sent {
		attribute := &c.Schema.Attributes[i]
		cell := attribute.Default.Cell
		if attribute.Kind == String {
			cell = c.Dict.Intern(attribute.Default.Text)
		}
		c.defaults = append(c.defaults, cell)
	}
	c.empty = c.Dict.Intern("")
}

// close ends what open began.
func (c *Columns) close() {
	for i := range c.Cells {
		c.Cells[i] = c.Cells[i][:len(c.Times)]
	}
}

const (
	fewestRows = 16
	moreRows   = 4096 // from there on memory is not doubled any more
	// stagger, in cells, keeps a row's cells out of each other's cache lines: at a
	// distance of a power of two they would all compete for the same few.
	stagger = 8
)

// begin opens a row, in which nothing has been seen.
func (c *Columns) begin() {
	row := len(c.Times)
	if row >= c.room {
		c.room = max(fewestRows, row+min(row, moreRows+row/2))
		stride := c.room + stagger
		all := make([]Cell, len(c.Cells)*stride)
		for i, old := range c.Cells {
			c.Cells[i] = all[i*stride : i*stride+c.room : (i+1)*stride]
			copy(c.Cells[i], old)
		}
	}
	clear(c.seen)
}

// see marks an attribute as one that the open row has.
func (c *Columns) see(at int, cell Cell) {
	c.seen[at>>6] |= 1 << (at & 63)
	c.Cells[at][len(c.Times)] = cell
}

// complete gives the open row the defaults of what was not sent, its event time,
// what stands for empty texts, and its derived attributes. Then it counts; on an
// error it does not.
func (c *Columns) complete(origin *Origin, offset int) error {
	row, at := len(c.Times), origin.Stored
	lacks := c.setDefaults(row)
	if e := c.Schema.EventTime; e >= 0 && e < c.sent && (lacks < 0 || e < lacks) {
		at = int64(c.Cells[e][row])
		if err := c.checkTime(at, origin.Stored); err != nil {
			return fmt.Errorf("%s: %w", c.Schema.Attributes[e].Name, err)
		}
	}
	if lacks >= 0 {
		return fmt.Errorf("%s is missing", c.Schema.Attributes[lacks].Name)
	}
	for _, i := range c.ifEmpty {
		if c.Cells[i][row] != c.empty {
			continue
		}
		cell, err := c.Schema.Attributes[i].IfEmpty(c, row)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Schema.Attributes[i].Name, err)
		}
		c.Cells[i][row] = cell
	}
	for i, derive := range c.derived {
		cell, err := derive(c, row)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(c.Schema.Attributes[c.sent+i].Name, HiddenPrefix), err)
		}
		c.Cells[c.sent+i][row] = cell
	}
	c.Times = append(c.Times, at)
	c.Sequences = append(c.Sequences, origin.Sequence)
	c.Messages = append(c.Messages, int32(origin.Message)) // a batch has far fewer than 2^31
	c.Offsets = append(c.Offsets, int32(offset))           // bounded by MaxBody
	c.Checksums = append(c.Checksums, origin.checksum(offset))
	c.Dropped = append(c.Dropped, false)
	return nil
}

// setDefaults gives the open row the defaults of what was not sent, up to the
// first attribute that must be sent, which it returns, or -1.
func (c *Columns) setDefaults(row int) int {
	for from := 0; from < c.sent; from += 64 {
		missing := ^c.seen[from/64]
		if left := c.sent - from; left < 64 {
			missing &= 1<<left - 1
		}
		for ; missing != 0; missing &= missing - 1 {
			i := from + bits.TrailingZeros64(missing)
			if c.Schema.Attributes[i].Required {
				return i
			}
			c.Cells[i][row] = c.defaults[i]
		}
	}
	return -1
}

// checkTime checks the event's time against the bounds of its schema.
func (c *Columns) checkTime(t, stored int64) error {
	if t <= 0 {
		return fmt.Errorf("%s is no time of an event: it must lie after 1970-01-01", formatTime(t))
	}
	if bound := c.Schema.Future.Microseconds(); bound > 0 && t > stored+bound {
		return fmt.Errorf("%s lies more than %s after the time at which the stream took the message (%s)",
			formatTime(t), c.Schema.Future, formatTime(stored))
	}
	if bound := c.Schema.Past.Microseconds(); bound > 0 && t < stored-bound {
		return fmt.Errorf("%s lies more than %s before the time at which the stream took the message (%s)",
			formatTime(t), c.Schema.Past, formatTime(stored))
	}
	return nil
}
