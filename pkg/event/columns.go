package event

// Dictionary interns texts: equal texts get equal cells. It belongs to one
// batch and one goroutine.
type Dictionary struct {
	ids   map[string]Cell
	texts []string
}

// NewDictionary returns an empty dictionary.
func NewDictionary() *Dictionary {
	return &Dictionary{ids: make(map[string]Cell)}
}

// Intern returns the cell of the text.
func (d *Dictionary) Intern(text string) Cell {
	if id, ok := d.ids[text]; ok {
		return id
	}
	return d.add(text)
}

// InternBytes is Intern without a copy where the text is known already.
func (d *Dictionary) InternBytes(text []byte) Cell {
	if id, ok := d.ids[string(text)]; ok {
		return id
	}
	return d.add(string(text))
}

func (d *Dictionary) add(text string) Cell {
	id := Cell(len(d.texts))
	d.ids[text] = id
	d.texts = append(d.texts, text)
	return id
}

// Text returns the text of a cell that this dictionary gave out.
func (d *Dictionary) Text(id Cell) string { return d.texts[id] }

// Len returns the number of different texts.
func (d *Dictionary) Len() int { return len(d.texts) }

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
}

// NewColumns returns empty columns for the schema.
func NewColumns(schema *Schema, dict *Dictionary) *Columns {
	return &Columns{Schema: schema, Dict: dict, Cells: make([][]Cell, len(schema.Attributes))}
}

// Len returns the number of rows, dropped ones included.
func (c *Columns) Len() int { return len(c.Times) }

// Text returns the text of a string attribute.
func (c *Columns) Text(attribute, row int) string {
	return c.Dict.Text(c.Cells[attribute][row])
}

// Truncate takes back all rows from n on.
func (c *Columns) Truncate(n int) {
	c.Times = c.Times[:n]
	c.Sequences = c.Sequences[:n]
	c.Messages = c.Messages[:n]
	c.Offsets = c.Offsets[:n]
	c.Checksums = c.Checksums[:n]
	c.Dropped = c.Dropped[:n]
	for i := range c.Cells {
		c.Cells[i] = c.Cells[i][:min(n, len(c.Cells[i]))]
	}
}
