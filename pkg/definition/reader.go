package definition

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader walks the YAML of one file and collects what is wrong in it.
type reader struct {
	file     string
	problems *problems
	path     string // what is being read, as in `aggregation "X": `
	told     map[told]bool
}

// told is a problem without the path by which it was found.
type told struct {
	at   *yaml.Node
	text string
}

// once returns a reader that reports what is wrong at one place only once, though several read it.
func (r reader) once() reader {
	r.told = map[told]bool{}
	return r
}

// within returns a reader whose problems begin with what.
func (r reader) within(format string, args ...any) reader {
	r.path += fmt.Sprintf(format, args...) + ": "
	return r
}

// bad adds a problem at the node; a nil node stands for the file.
func (r reader) bad(n *yaml.Node, format string, args ...any) {
	line, text := 0, fmt.Sprintf(format, args...)
	if n != nil {
		line = n.Line
	}
	if r.told != nil {
		if r.told[told{n, text}] {
			return
		}
		r.told[told{n, text}] = true
	}
	r.problems.add(r.file, line, r.path+text)
}

// parse returns the root of the file's only document; nil after a problem.
func (r reader) parse(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		r.bad(nil, "defines nothing")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			r.syntax(err)
		} else {
			r.bad(&second, "a second document begins here: use a file of its own")
		}
		return nil
	}
	return resolve(document.Content[0])
}

var (
	syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// blockSyntax are errors that YAML notices only at the end of a block: it
	// gives the line where the block begins, counted from 0.
	blockSyntax = regexp.MustCompile(`^did not find expected (key|node content|',|'-'|<)`)
)

// syntax reports an error of the YAML parser, which carries its line as text.
func (r reader) syntax(err error) {
	at, text := &yaml.Node{}, err.Error()
	if m := syntaxLine.FindStringSubmatch(strings.ReplaceAll(text, "\n", " ")); m != nil {
		at.Line, _ = strconv.Atoi(m[1]) // 0 where there is none
		text = m[2]
	}
	switch {
	case blockSyntax.MatchString(text):
		at.Line++
		text += ", in the block that begins here"
	case strings.Contains(text, "mapping values are not allowed"):
		text += ` (quote a text that contains ": ")`
	}
	r.bad(at, "not YAML: %s", text)
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// describe says what a node is, for a person who wrote another thing.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "empty"
	}
	return strconv.Quote(n.Value)
}

// entries calls each for all entries of a mapping, in order. Every name is a
// text that occurs once.
func (r reader) entries(n *yaml.Node, each func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.bad(n, "must be a mapping of names to values, it is %s", describe(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		if key.Kind != yaml.ScalarNode || key.Tag == "!!null" {
			r.bad(n.Content[i], "a name must be a text, this is %s", describe(key))
			continue
		}
		if line, ok := seen[key.Value]; ok {
			r.bad(n.Content[i], "%q is given twice, first in line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		each(key, value)
	}
}

// fields reads a mapping whose names are fixed. A field with a misspelt name is read as the one that is meant, if that is not
// given too, so that it is not said to be missing as well.
func (r reader) fields(n *yaml.Node, known map[string]func(value *yaml.Node)) {
	given := map[string]bool{}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		given[n.Content[i].Value] = true
	}
	r.entries(n, func(key, value *yaml.Node) {
		if read, ok := known[key.Value]; ok {
			read(value)
			return
		}
		names := slices.Sorted(maps.Keys(known))
		r.bad(key, "unknown field %q%s", key.Value, suggest(key.Value, names))
		if meant := nearest(key.Value, names); meant != "" && !given[meant] {
			given[meant] = true
			known[meant](value)
		}
	})
}

// scalar is a value as it was written; its zero value was not given.
type scalar struct{ *yaml.Node }

func (s scalar) given() bool { return s.Node != nil }

// text returns the value, "" where it was not given.
func (s scalar) text() string {
	if s.Node == nil {
		return ""
	}
	return s.Value
}

// scalar reads a single value into to.
func (r reader) scalar(name string, to *scalar) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			r.bad(n, "%s must be a single value, it is %s", name, describe(n))
			return
		}
		to.Node = n
	}
}

// list reads a sequence of single values, or one of them alone, into to.
func (r reader) list(name string, to *[]scalar) func(*yaml.Node) {
	return func(n *yaml.Node) {
		items := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			items = n.Content
		}
		for _, item := range items {
			var s scalar
			r.scalar("every item of "+name, &s)(resolve(item))
			if s.given() {
				*to = append(*to, s)
			}
		}
	}
}

// int, float and bool read a scalar of that type; a problem gives the zero.

func (r reader) int(name string, s scalar) int64 {
	var v int64
	if s.Tag != "!!int" || s.Decode(&v) != nil {
		r.bad(s.Node, "%s must be an integer, it is %s", name, describe(s.Node))
	}
	return v
}

func (r reader) float(name string, s scalar) float64 {
	var v float64
	if s.Tag != "!!int" && s.Tag != "!!float" || s.Decode(&v) != nil || !finite(v) {
		r.bad(s.Node, "%s must be a number, it is %s", name, describe(s.Node))
	}
	return v
}

func (r reader) bool(name string, s scalar) bool {
	var v bool
	if s.Tag != "!!bool" || s.Decode(&v) != nil {
		r.bad(s.Node, "%s must be true or false, it is %s", name, describe(s.Node))
	}
	return v
}
