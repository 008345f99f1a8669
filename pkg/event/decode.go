package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Reject is one event that breaks its schema, or a whole message that cannot
// be read.
type Reject struct {
	// Offset is the event's place in its message, from 0; -1 the whole message.
	Offset int
	// Reason is a sentence for the person who looks at the dead letter.
	Reason string
	// Payload is the event as it was sent.
	Payload []byte
}

// Body is a message's content as the wire carries it.
type Body struct {
	Data        []byte
	ContentType string // application/x-ndjson: one event a line, each on its own
	Encoding    string // "", gzip or zstd
}

// Decoder reads message bodies. It may be reused but not shared between
// goroutines; its zero value is ready.
type Decoder struct {
	values jsontext.Decoder // cuts a body into events
	fields jsontext.Decoder // reads one event
	source bytes.Reader
	inner  bytes.Reader
	size   int
}

// Size returns how many bytes the last body had once it was decompressed.
func (d *Decoder) Size() int { return d.size }

// Decode appends the events of one message to into and returns how many the
// message carries, rejected ones included. A body that cannot be cut into
// events is an error that wraps ErrUndecodable, and adds nothing. A body is a
// JSON object, an array of objects, several objects one after another, or,
// with Content-Type application/x-ndjson, one object a line; only in the last
// form does a line of broken JSON leave the other events readable.
func (d *Decoder) Decode(body Body, origin Origin, into *Columns) (int, []Reject, error) {
	plain, err := inflate(body.Data, body.Encoding)
	d.size = len(plain)
	if err != nil {
		return 0, nil, err
	}
	if strings.Contains(strings.ToLower(body.ContentType), "ndjson") {
		return d.decodeLines(plain, origin, into)
	}
	return d.decodeValues(plain, origin, into)
}

// DecodeEvent appends one event, which is the one at offset in its message. An
// error says why it breaks its schema, and adds nothing.
func (d *Decoder) DecodeEvent(raw []byte, origin Origin, offset int, into *Columns) error {
	return d.decodeEvent(raw, origin, offset, into)
}

func (d *Decoder) decodeLines(body []byte, origin Origin, into *Columns) (int, []Reject, error) {
	var rejects []Reject
	n := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := d.decodeEvent(line, origin, n, into); err != nil {
			rejects = append(rejects, Reject{Offset: n, Reason: err.Error(), Payload: bytes.Clone(line)})
		}
		n++
	}
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: empty body", ErrUndecodable)
	}
	return n, rejects, nil
}

func (d *Decoder) decodeValues(body []byte, origin Origin, into *Columns) (int, []Reject, error) {
	before := into.Len()
	n, rejects, err := d.cutValues(body, func(raw []byte, offset int) error {
		return d.decodeEvent(raw, origin, offset, into)
	})
	if err == nil && n == 0 {
		err = errors.New("no event in it")
	}
	if err != nil {
		into.Truncate(before)
		return 0, nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return n, rejects, nil
}

// cutValues calls each for every event of a body of JSON values; arrays at
// the top are opened. It is lenient about what is inside a value, for that is
// the event's own affair.
func (d *Decoder) cutValues(body []byte, each func(raw []byte, offset int) error) (int, []Reject, error) {
	d.source.Reset(body)
	d.values.Reset(&d.source, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var rejects []Reject
	n := 0
	for {
		switch d.values.PeekKind() {
		case '[':
			if d.values.StackDepth() == 0 {
				if _, err := d.values.ReadToken(); err != nil {
					return 0, nil, err
				}
				continue
			}
		case ']':
			if _, err := d.values.ReadToken(); err != nil {
				return 0, nil, err
			}
			continue
		}
		raw, err := d.values.ReadValue()
		if errors.Is(err, io.EOF) {
			return n, rejects, nil
		}
		if err != nil {
			return 0, nil, err
		}
		if err := each(raw, n); err != nil {
			rejects = append(rejects, Reject{Offset: n, Reason: err.Error(), Payload: bytes.Clone(raw)})
		}
		n++
	}
}

// decodeEvent appends one event as a row. On error nothing is appended.
func (d *Decoder) decodeEvent(raw []byte, origin Origin, offset int, into *Columns) error {
	row := into.Len()
	into.Times = append(into.Times, origin.Stored)
	into.Sequences = append(into.Sequences, origin.Sequence)
	into.Messages = append(into.Messages, int32(origin.Message)) // a batch has far fewer than 2^31
	into.Offsets = append(into.Offsets, int32(offset))           // bounded by MaxBody
	into.Checksums = append(into.Checksums, origin.checksum(offset))
	into.Dropped = append(into.Dropped, false)
	err := d.readAttributes(raw, into, row)
	if err == nil {
		err = into.complete(row, origin)
	}
	if err != nil {
		into.Truncate(row)
	}
	return err
}

// readAttributes fills the row's sent attributes from a JSON object. Unknown
// attributes are passed over; null counts as missing.
func (d *Decoder) readAttributes(raw []byte, into *Columns, row int) error {
	d.inner.Reset(raw)
	d.fields.Reset(&d.inner)
	token, err := d.fields.ReadToken()
	if err != nil {
		return fmt.Errorf("broken JSON: %w", err)
	}
	if token.Kind() != '{' {
		return fmt.Errorf("an event must be a JSON object, this is %s", kindName(token.Kind()))
	}
	for d.fields.PeekKind() != '}' {
		name, err := d.fields.ReadToken()
		if err != nil {
			return fmt.Errorf("broken JSON: %w", err)
		}
		at := into.Schema.Index(name.String())
		if at < 0 || into.Schema.Attributes[at].Derive != nil {
			if err := d.fields.SkipValue(); err != nil {
				return fmt.Errorf("broken JSON: %w", err)
			}
			continue
		}
		if err := d.readAttribute(into, at, row); err != nil {
			return err
		}
	}
	if _, err := d.fields.ReadToken(); err != nil {
		return fmt.Errorf("broken JSON: %w", err)
	}
	if _, err := d.fields.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("broken JSON: something follows the event's closing brace")
	}
	return nil
}

func (d *Decoder) readAttribute(into *Columns, at, row int) error {
	attribute := &into.Schema.Attributes[at]
	token, err := d.fields.ReadToken()
	if err != nil {
		return fmt.Errorf("broken JSON in %s: %w", attribute.Name, err)
	}
	if token.Kind() == 'n' {
		return nil
	}
	cell, err := attribute.read(token, into.Dict)
	if err != nil {
		return fmt.Errorf("%s: %w", attribute.Name, err)
	}
	into.Cells[at] = append(into.Cells[at][:row], cell)
	return nil
}

// complete gives the row the defaults of what was not sent, its event time,
// what stands for empty texts, and its derived attributes.
func (c *Columns) complete(row int, origin Origin) error {
	sent, filled := 0, false
	for ; sent < len(c.Schema.Attributes) && c.Schema.Attributes[sent].Derive == nil; sent++ {
		attribute := &c.Schema.Attributes[sent]
		if len(c.Cells[sent]) == row {
			cell, err := c.missing(attribute)
			if err != nil {
				return err
			}
			c.Cells[sent] = append(c.Cells[sent], cell)
		}
		if sent == c.Schema.EventTime {
			if err := c.setTime(row, int64(c.Cells[sent][row]), origin.Stored); err != nil {
				return fmt.Errorf("%s: %w", attribute.Name, err)
			}
		}
		filled = filled || attribute.IfEmpty != nil && c.Text(sent, row) == ""
	}
	if filled {
		if err := c.fill(row, sent); err != nil {
			return err
		}
	}
	for at := sent; at < len(c.Schema.Attributes); at++ {
		attribute := &c.Schema.Attributes[at]
		cell, err := attribute.Derive(c, row)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(attribute.Name, HiddenPrefix), err)
		}
		c.Cells[at] = append(c.Cells[at], cell)
	}
	return nil
}

// fill gives the row, complete in the attributes that are sent, the texts that
// stand for empty ones.
func (c *Columns) fill(row, sent int) error {
	for at := range sent {
		attribute := &c.Schema.Attributes[at]
		if attribute.IfEmpty == nil || c.Text(at, row) != "" {
			continue
		}
		cell, err := attribute.IfEmpty(c, row)
		if err != nil {
			return fmt.Errorf("%s: %w", attribute.Name, err)
		}
		c.Cells[at][row] = cell
	}
	return nil
}

// missing returns the value of an attribute that was not sent.
func (c *Columns) missing(attribute *Attribute) (Cell, error) {
	switch {
	case attribute.Required:
		return 0, fmt.Errorf("%s is missing", attribute.Name)
	case attribute.Kind == String:
		return c.Dict.Intern(attribute.Default.Text), nil
	}
	return attribute.Default.Cell, nil
}

// setTime checks the event's time against the bounds of its schema.
func (c *Columns) setTime(row int, t, stored int64) error {
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
	c.Times[row] = t
	return nil
}
