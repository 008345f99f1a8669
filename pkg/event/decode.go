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
	values   jsontext.Decoder // cuts a body into events
	fields   jsontext.Decoder // reads one event
	inflater inflater
	size     int
	scanners map[*Schema]*scanner
	exact    bool // without scanners, for tests
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
	plain, err := d.inflater.inflate(body.Data, body.Encoding)
	d.size = len(plain)
	if err != nil {
		return 0, nil, err
	}
	into.open()
	defer into.close()
	if isNDJSON(body.ContentType) {
		return d.decodeLines(plain, &origin, into)
	}
	if s := d.scanner(into.Schema); s != nil {
		before := into.Len()
		if n, rejects, ok := d.scanValues(s, plain, &origin, into); ok {
			return n, rejects, nil
		}
		into.takeBack(before)
	}
	return d.decodeValues(plain, &origin, into)
}

func isNDJSON(contentType string) bool {
	return contentType != "" && contentType != "application/json" && strings.Contains(strings.ToLower(contentType), "ndjson")
}

// DecodeEvent appends one event, which is the one at offset in its message. An
// error says why it breaks its schema, and adds nothing.
func (d *Decoder) DecodeEvent(raw []byte, origin Origin, offset int, into *Columns) error {
	into.open()
	defer into.close()
	return d.scanEvent(d.scanner(into.Schema), raw, &origin, offset, into)
}

func (d *Decoder) decodeLines(body []byte, origin *Origin, into *Columns) (int, []Reject, error) {
	s := d.scanner(into.Schema)
	var rejects []Reject
	n := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := d.scanEvent(s, line, origin, n, into); err != nil {
			rejects = append(rejects, Reject{Offset: n, Reason: err.Error(), Payload: bytes.Clone(line)})
		}
		n++
	}
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: empty body", ErrUndecodable)
	}
	return n, rejects, nil
}

func (d *Decoder) decodeValues(body []byte, origin *Origin, into *Columns) (int, []Reject, error) {
	before := into.Len()
	n, rejects, err := d.cutValues(body, func(raw []byte, offset int) error {
		return d.decodeEvent(raw, origin, offset, into)
	})
	if err == nil && n == 0 {
		err = errors.New("no event in it")
	}
	if err != nil {
		into.takeBack(before)
		return 0, nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return n, rejects, nil
}

// cutValues calls each for every event of a body of JSON values; arrays at
// the top are opened. It is lenient about what is inside a value, for that is
// the event's own affair.
func (d *Decoder) cutValues(body []byte, each func(raw []byte, offset int) error) (int, []Reject, error) {
	d.values.Reset(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
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
func (d *Decoder) decodeEvent(raw []byte, origin *Origin, offset int, into *Columns) error {
	into.begin()
	if err := d.readAttributes(raw, into); err != nil {
		return err
	}
	return into.complete(origin, offset)
}

// readAttributes fills the open row's sent attributes from a JSON object. Unknown
// attributes are passed over; null counts as missing.
func (d *Decoder) readAttributes(raw []byte, into *Columns) error {
	d.fields.Reset(bytes.NewBuffer(raw)) // read in place: copied, what an error says would depend on how much was copied at a time
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
		if err := d.readAttribute(into, at); err != nil {
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

func (d *Decoder) readAttribute(into *Columns, at int) error {
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
	into.see(at, cell)
	return nil
}
