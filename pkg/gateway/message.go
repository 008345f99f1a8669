package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/pkg/event"
	"weir/pkg/stream"
)

// contentType of every message: newline-delimited JSON, also for one event.
// It is appended to without knowing what follows, an event that is no JSON
// spoils only its own line, and a reader can split it without parsing.
const contentType = "application/x-ndjson"

// headerRoom is kept free of a server's max_payload for the headers.
const headerRoom = 1024

// message is one message before it is sent.
type message struct {
	eventType string
	events    int
	body      []byte      // one event a line
	timer     *time.Timer // cuts it when the linger is over; nil without
	epoch     string      // and its numbers in it, once it is cut
	first     uint64
	last      uint64
}

func (m *message) append(event []byte) {
	m.body = append(append(m.body, event...), '\n')
	m.events++
}

// check rejects what could never be folded, and brings the event onto one line.
func (p *Publisher) check(eventType string, text []byte) ([]byte, error) {
	if !stream.ValidToken(eventType) {
		return nil, fmt.Errorf("publish event: type %q is no token", eventType)
	}
	if eventType == event.HeartbeatType {
		return nil, errors.New("publish event: the type heartbeat is for what publishers say of themselves")
	}
	text = bytes.TrimSpace(text)
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, errors.New("publish event: not a JSON object")
	}
	if len(text) > p.cfg.BatchBytes { // else there is room for it
		if limit := p.conn.MaxPayload() - headerRoom; len(text) > limit {
			return nil, fmt.Errorf("publish event: %d bytes, at most %d fit into a message", len(text), limit)
		}
	}
	if bytes.IndexByte(text, '\n') < 0 {
		return text, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return nil, fmt.Errorf("publish event: %w", err)
	}
	return line.Bytes(), nil
}

// Stats counts events and messages of one Publisher since it was made.
type Stats struct {
	Accepted     uint64 // events taken by Publish and PublishMessage
	Acknowledged uint64 // events that the stream has
	Failed       uint64 // events given up; they may or may not be in the stream

	Messages             uint64 // sent
	MessagesAcknowledged uint64 // that the stream has, duplicates included
	MessagesDuplicate    uint64 // that it had already, by their identity
	MessagesFailed       uint64

	LastError error // of the newest failed message
}

func (s *Stats) settle(m *message, duplicate bool, err error) {
	if err != nil {
		s.Failed += uint64(m.events)
		s.MessagesFailed++
		s.LastError = err
		return
	}
	s.Acknowledged += uint64(m.events)
	s.MessagesAcknowledged++
	if duplicate {
		s.MessagesDuplicate++
	}
}

// codec compresses bodies, each at once. Its name is the Content-Encoding, ""
// for none. It may be used from several goroutines.
type codec struct {
	name string
	zstd *zstd.Encoder
	gzip *sync.Pool // of *gzip.Writer: a new one costs more than a body
}

func newCodec(compression string) (codec, error) {
	switch compression {
	case "", "none":
		return codec{}, nil
	case "gzip":
		return codec{name: "gzip", gzip: &sync.Pool{New: func() any { return gzip.NewWriter(nil) }}}, nil
	case "zstd":
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return codec{}, fmt.Errorf("zstd: %w", err)
		}
		return codec{name: "zstd", zstd: encoder}, nil
	}
	return codec{}, fmt.Errorf(`compression %q is unknown; use "none", "gzip" or "zstd"`, compression)
}

func (c codec) encode(body []byte) []byte {
	switch c.name {
	case "gzip":
		var out bytes.Buffer
		out.Grow(len(body) / 8)
		w, _ := c.gzip.Get().(*gzip.Writer)
		w.Reset(&out)
		_, _ = w.Write(body) // a bytes.Buffer takes everything
		_ = w.Close()
		c.gzip.Put(w)
		return out.Bytes()
	case "zstd":
		return c.zstd.EncodeAll(body, make([]byte, 0, len(body)/8))
	}
	return body
}
