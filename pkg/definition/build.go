package definition

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"weir/pkg/event"
)

// builder turns documents into a catalogue.
type builder struct {
	options Options
	catalog Catalog
	streams map[string]*stream
	// taken says where a name was given first, by what it names and the name
	// as it must be unique.
	taken map[string]string
}

func build(documents []*document, l *language, options Options, all *problems) *Catalog {
	b := &builder{options: options, streams: map[string]*stream{}, taken: map[string]string{}}
	for _, d := range documents {
		b.addStream(d, l)
	}
	for _, d := range documents {
		for _, text := range d.aggregations {
			b.addAggregation(d, text)
		}
	}
	for _, d := range documents { // which may be of any aggregation
		for _, text := range d.rules {
			b.addRule(d, text)
		}
	}
	if len(b.streams) == 0 && len(*all) == 0 {
		all.add("definitions", 0, "no file defines a stream")
	}
	for _, s := range b.catalog.Streams { // complete with all hidden attributes
		s.Seal()
	}
	return &b.catalog
}

func (b *builder) addStream(d *document, l *language) {
	if !d.stream.given() {
		for _, s := range []scalar{d.time, d.future, d.past} {
			if s.given() {
				d.bad(s.Node, "time, future and past belong to a stream: name it with \"stream: …\"")
			}
		}
		if len(d.attributes) > 0 {
			d.bad(d.attributes[0].name.Node, "attributes belong to a stream: name it with \"stream: …\"")
		}
		if len(d.derived) > 0 {
			d.bad(d.derived[0].name.Node, "derived attributes belong to a stream: name it with \"stream: …\"")
		}
		return
	}
	s := newStream(d, l)
	if !b.take(d.reader, d.stream.Node, "stream", s.schema.Name) {
		return
	}
	b.streams[s.schema.Name] = s
	b.catalog.Streams = append(b.catalog.Streams, s.schema)
}

// take reserves a name, which may differ from all others only in case.
func (b *builder) take(r reader, n *yaml.Node, what, name string) bool {
	id := what + " " + strings.ToLower(name)
	if at, ok := b.taken[id]; ok {
		r.bad(n, "%s %q is defined already, at %s (names that differ only in case are the same)", what, name, at)
		return false
	}
	b.taken[id] = fmt.Sprintf("%s:%d", r.file, n.Line)
	return true
}

// stream finds a stream by name; nil after a problem.
func (b *builder) stream(r reader, name scalar) *stream {
	if s, ok := b.streams[name.Value]; ok {
		return s
	}
	var names []string
	for _, s := range b.catalog.Streams {
		names = append(names, s.Name)
	}
	r.bad(name.Node, "unknown stream %q%s", name.Value, suggest(name.Value, names))
	return nil
}

// across finds the same thing in every stream and checks that all agree on
// its kind. It reports the first problem at n.
func across(r reader, n *yaml.Node, streams []*stream, find func(*stream) (int, event.Kind, error)) ([]int, event.Kind, bool) {
	var places []int
	var kind event.Kind
	for _, s := range streams {
		at, k, err := find(s)
		if err != nil {
			r.reportAt(n, err)
			return nil, 0, false
		}
		if kind != 0 && k != kind {
			r.bad(n, "is %s in stream %q but %s in stream %q: the types must be equal",
				kind, streams[0].schema.Name, k, s.schema.Name)
			return nil, 0, false
		}
		kind = k
		places = append(places, at)
	}
	return places, kind, len(places) > 0
}
