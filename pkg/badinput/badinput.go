// Package badinput is the corpus of bad and odd input: what gateways, foreign
// publishers and attackers may send, and what is to become of it.
//
// The cases are the files of cases/, one per subject, to be read and added to:
//
//   - name: nul-escaped                          # unique; its events count under it
//     why: Postgres text cannot hold NUL
//     fields: '"username":"a\u0000b"'            # a good event and these fields
//     fate: {dead: {0: "username: holds a NUL byte"}}
//
// In place of fields a case may have a whole body, and beside either a subject
// (default events.request.gw-bad) and headers. What is sent is a text, or
//
//	{repeat: x, times: 1048577}   {numbered: "x%d,", times: 10}   {nested: 10000}   {hex: "c0 80"}
//	{gzip: …}   {zstd: …}         {cut: 20, of: …}                a list: one after another
//
// where cut leaves the first bytes of something, or with a negative number drops
// the last ones, and nested is arrays in arrays. Headers are names and values, or
// {lines: …} as they travel, and status is what follows NATS/1.0. In texts, $case is the case's name, $event a good event of the
// case, and $time the good event's time.
//
// The fate is folded (one event), folded: N, dead: {offset: reason} where the
// offset is an event's place in its message, several of them (0..9) or all of the
// message, refused: reason for what the server does not take, or ignored for what
// does not get into the stream although it is taken. {folded: 0} is what the
// ledger has already. Folded
// events may have to hold something: {folded: 1, holds: {apiName: None}}. What is
// sent after the first message stands under then, each message with its fate.
//
// The corpus is sent through real servers by pkg/worker, and seeds the fuzz
// targets of everything that decodes.
package badinput

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed cases/*.yaml
var files embed.FS

// Streams defines the stream probe, which has an attribute of every kind; cases
// about numbers are sent to it. All other cases are sent to the default pack.
//
//go:embed probe.yaml
var Streams []byte

const (
	defaultSubject = "events.request.gw-bad"
	// Time is when the good event of each case happened, in milliseconds since
	// 1970 UTC: 2024-05-17T12:00:00Z.
	Time = 1715947200000
)

// Case is one bad or odd input: one message or several.
type Case struct {
	File, Name, Why string
	Messages        []Message
}

// Message is what is sent.
type Message struct {
	Subject string
	// Headers are the header block as it travels, from NATS/1.0 to the empty
	// line; nil for none.
	Headers []byte
	Body    []byte
	Fate    Fate
}

// Fate is what is to become of a message.
type Fate struct {
	Folded  int            // events
	Dead    map[int]string // by offset, -1 for the whole message: what the reason contains
	Refused bool           // by the server
	Reason  string         // what its refusal contains
	Ignored bool           // a duplicate to the server, or the message of another stream
	// Holds is what the columns of the folded events hold, by attribute.
	Holds map[string]string
}

// Header returns the value of a header, or "".
func (m Message) Header(name string) string {
	for line := range strings.SplitSeq(string(m.Headers), "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Load reads all cases, in the order of their files.
func Load() ([]Case, error) { return load(false) }

// Seeds calls add with every message that is small enough to be the start of
// many others.
func Seeds(add func(Message)) error {
	cases, err := load(true)
	for _, c := range cases {
		for _, m := range c.Messages {
			add(m)
		}
	}
	return err
}

// load reads the cases, or only what is small of them.
func load(small bool) ([]Case, error) {
	names, err := fs.Glob(files, "cases/*.yaml")
	if err != nil {
		return nil, err
	}
	var cases []Case
	seen := map[string]string{}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		found, err := parse(path.Base(name), text, small)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			if seen[c.Name] != "" {
				return nil, fmt.Errorf("%s: the case %s is in %s already", c.File, c.Name, seen[c.Name])
			}
			seen[c.Name] = c.File
		}
		cases = append(cases, found...)
	}
	return cases, nil
}

// messageText is a message as it is written.
type messageText struct {
	Subject yaml.Node `yaml:"subject"`
	Headers yaml.Node `yaml:"headers"`
	Fields  yaml.Node `yaml:"fields"`
	Body    yaml.Node `yaml:"body"`
	Fate    yaml.Node `yaml:"fate"`
}

type caseText struct {
	Name        string `yaml:"name"`
	Why         string `yaml:"why"`
	messageText `yaml:",inline"`
	Then        []messageText `yaml:"then"`
}

func parse(file string, text []byte, small bool) ([]Case, error) {
	var texts []caseText
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&texts); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	cases := make([]Case, 0, len(texts))
	for _, t := range texts {
		c := Case{File: file, Name: t.Name, Why: t.Why}
		if t.Name == "" || t.Why == "" {
			return nil, fmt.Errorf("%s: case %q needs a name and a why", file, t.Name)
		}
		for _, m := range append([]messageText{t.messageText}, t.Then...) {
			message, err := m.read(t.Name, small)
			if errors.Is(err, errLarge) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: case %s: %w", file, t.Name, err)
			}
			c.Messages = append(c.Messages, message)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

func (t messageText) read(name string, small bool) (m Message, err error) {
	e := expander{name: name, small: small}
	m.Subject = defaultSubject
	if t.Subject.Kind != 0 {
		subject, err := e.data(&t.Subject)
		if err != nil {
			return m, fmt.Errorf("subject: %w", err)
		}
		m.Subject = string(subject)
	}
	e.probe = strings.HasPrefix(m.Subject, "events.probe.")
	switch {
	case t.Fields.Kind != 0 && t.Body.Kind != 0:
		return m, errors.New("fields and body: give one of them")
	case t.Fields.Kind != 0:
		fields, err := e.data(&t.Fields)
		if err != nil {
			return m, fmt.Errorf("fields: %w", err)
		}
		m.Body = e.event(fields)
	case t.Body.Kind != 0:
		if m.Body, err = e.data(&t.Body); err != nil {
			return m, fmt.Errorf("body: %w", err)
		}
	default:
		m.Body = e.event(nil)
	}
	if m.Headers, err = e.headers(&t.Headers); err != nil {
		return m, fmt.Errorf("headers: %w", err)
	}
	if m.Fate, err = e.fate(&t.Fate); err != nil {
		return m, fmt.Errorf("fate: %w", err)
	}
	return m, nil
}
