package event

// Origin is where the events of one message come from.
type Origin struct {
	// Message is the index of the message in its batch.
	Message int
	// Sequence is the message's place in the stream, Stored the time at which
	// the stream took it (microseconds since 1970 UTC).
	Sequence uint64
	Stored   int64
	// Base and Number are what the events' checksums are computed from (see
	// Checksum). Numbered: each event has a number of its own, the first one Number.
	Base, Number uint64
	Numbered     bool
}

// checksum returns that of the event at offset.
func (o *Origin) checksum(offset int) uint32 {
	if o.Numbered {
		return Checksum(o.Base, o.Number+uint64(offset), 0) //nolint:gosec // never negative
	}
	return Checksum(o.Base, o.Number, offset)
}

// Columns holds the decoded events of one stream, row by row over parallel
// slices, in the order of arrival.
type Columns struct {
	Schema *Schema
	Dict   *Dictionary

	Times     []int64  // event time, microseconds since 1970 UTC
	Sequences []uint64 // stream sequence of the event's message
	Messages  []int32  // index of that message in the batch
	Offsets   []int32  // place of the event in its message, from 0
	Checksums []uint32 // of who the event is
	Dropped   []bool   // known to be folded already; Fold passes over it
	Cells     [][]Cell // by attribute, then row

	sent     int         // attributes before this one are sent, the others derived
	ifEmpty  []int       // those sent that have an IfEmpty
	derived  []Eval      // of the others
	room     int         // rows that Cells has memory for
	known    *Dictionary // of which the next two are
	defaults []Cell      // by attribute that is sent
	empty    Cell        // the empty text
	seen     []uint64    // the open row's members, as bits; behind the attributes those that the scanner knows
}

// NewColumns returns empty columns for the schema.
func NewColumns(schema *Schema, dict *Dictionary) *Columns {
	c := &Columns{Schema: schema, Dict: dict, Cells: make([][]Cell, len(schema.Attributes))}
	for c.sent < len(schema.Attributes) && schema.Attributes[c.sent].Derive == nil {
		if schema.Attributes[c.sent].IfEmpty != nil {
			c.ifEmpty = append(c.ifEmpty, c.sent)
		}
		c.sent++
	}
	for i := c.sent; i < len(schema.Attributes); i++ {
		c.derived = append(c.derived, schema.Attributes[i].Derive)
	}
	c.seen = make([]uint64, (len(schema.Attributes)+mostUnknown)/64+1)
	return c
}

// Len returns the number of rows, dropped ones included.
func (c *Columns) Len() int { return len(c.Times) }

// Text returns the text of a string attribute.
func (c *Columns) Text(attribute, row int) string {
	return c.Dict.Text(c.Cells[attribute][row])
}

// mostCells bounds the memory that Reset keeps, to 128 MB: far more than batches
// need, but for one that somebody filled with tiny events.
const mostCells = 16 << 20

// Reset empties the columns for another batch. They keep their memory, and their
// dictionary what it knows; Dict may be replaced now.
func (c *Columns) Reset() {
	c.Truncate(0)
	if c.room*len(c.Cells) > mostCells {
		c.room = 0
		clear(c.Cells)
	}
}

// Truncate takes back all rows from n on.
func (c *Columns) Truncate(n int) {
	c.takeBack(n)
	for i := range c.Cells {
		c.Cells[i] = c.Cells[i][:min(n, len(c.Cells[i]))]
	}
}

// takeBack is Truncate between open and close.
func (c *Columns) takeBack(n int) {
	c.Times = c.Times[:n]
	c.Sequences = c.Sequences[:n]
	c.Messages = c.Messages[:n]
	c.Offsets = c.Offsets[:n]
	c.Checksums = c.Checksums[:n]
	c.Dropped = c.Dropped[:n]
}
