package badinput

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.yaml.in/yaml/v3"
)

// expander makes bytes of what a case says.
type expander struct {
	name  string
	probe bool // the good event is one of the stream probe
	small bool // what is large is errLarge
}

const largest = 2048 // bytes of a repetition, where only what is small is wanted

var errLarge = errors.New("too large for a seed")

// event returns a good event of the case, with more fields after its own.
func (e expander) event(fields []byte) []byte {
	format := `{"applicationId":"%s","apiContext":"/bad/1","requestTimestamp":%d`
	if e.probe {
		format = `{"case":"%s","at":%d`
	}
	out := fmt.Appendf(nil, format, e.name, Time)
	if len(fields) > 0 {
		out = append(append(out, ','), fields...)
	}
	return append(out, '}')
}

func (e expander) text(s string) string {
	return strings.NewReplacer("$case", e.name, "$event", string(e.event(nil)), "$time", fmt.Sprint(Time)).Replace(s)
}

// part is one way of writing bytes down.
type part struct {
	Repeat   string    `yaml:"repeat"`
	Numbered string    `yaml:"numbered"`
	Times    int       `yaml:"times"`
	Nested   int       `yaml:"nested"`
	Hex      string    `yaml:"hex"`
	Gzip     yaml.Node `yaml:"gzip"`
	Zstd     yaml.Node `yaml:"zstd"`
	Cut      int       `yaml:"cut"`
	Of       yaml.Node `yaml:"of"`
}

func (e expander) data(node *yaml.Node) ([]byte, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return []byte(e.text(node.Value)), nil
	case yaml.SequenceNode:
		var all []byte
		for _, n := range node.Content {
			d, err := e.data(n)
			if err != nil {
				return nil, err
			}
			all = append(all, d...)
		}
		return all, nil
	case yaml.MappingNode:
		var p part
		if err := node.Decode(&p); err != nil {
			return nil, err
		}
		return e.part(p)
	default:
		return nil, fmt.Errorf("line %d: neither a text nor a list nor a way to make one", node.Line)
	}
}

func (e expander) part(p part) ([]byte, error) {
	switch {
	case e.small && max(p.Nested, p.Times, p.Times*len(p.Repeat)) > largest:
		return nil, errLarge
	case p.Numbered != "":
		var out []byte
		for n := range p.Times {
			out = append(out, strings.ReplaceAll(p.Numbered, "%d", strconv.Itoa(n))...)
		}
		return out, nil
	case p.Times > 0:
		return bytes.Repeat([]byte(e.text(p.Repeat)), p.Times), nil
	case p.Nested > 0:
		return []byte(strings.Repeat("[", p.Nested) + strings.Repeat("]", p.Nested)), nil
	case p.Hex != "":
		return hex.DecodeString(strings.ReplaceAll(p.Hex, " ", ""))
	case p.Gzip.Kind != 0:
		return compressed(&p.Gzip, e, func(b *bytes.Buffer) (writer, error) { return gzip.NewWriter(b), nil })
	case p.Zstd.Kind != 0:
		return compressed(&p.Zstd, e, func(b *bytes.Buffer) (writer, error) { return zstd.NewWriter(b, zstd.WithEncoderConcurrency(1)) })
	case p.Cut != 0:
		whole, err := e.data(&p.Of)
		if err != nil {
			return nil, err
		}
		if p.Cut < 0 {
			return whole[:len(whole)+p.Cut], nil
		}
		return whole[:p.Cut], nil
	}
	return nil, errors.New("none of repeat and times, nested, hex, gzip, zstd, cut and of")
}

type writer interface {
	Write([]byte) (int, error)
	Close() error
}

func compressed(node *yaml.Node, e expander, open func(*bytes.Buffer) (writer, error)) ([]byte, error) {
	plain, err := e.data(node)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := open(&b)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// headers reads a mapping of names to values, or the lines as they travel, and
// makes the header block of it.
func (e expander) headers(node *yaml.Node) ([]byte, error) {
	if node.Kind == 0 {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, errors.New("write names and their values, or {lines: …}")
	}
	var status, lines []byte
	for i := 0; i < len(node.Content); i += 2 {
		name := node.Content[i].Value
		value, err := e.data(node.Content[i+1])
		switch {
		case err != nil:
			return nil, err
		case name == "lines":
			lines = append(lines, value...)
		case name == "status":
			status = value
		default:
			lines = fmt.Appendf(lines, "%s: %s\r\n", name, value)
		}
	}
	return fmt.Appendf(nil, "NATS/1.0%s\r\n%s\r\n", status, lines), nil
}

// fateText is a fate that is more than a word.
type fateText struct {
	Folded  int               `yaml:"folded"`
	Holds   map[string]string `yaml:"holds"`
	Dead    yaml.Node         `yaml:"dead"`
	Refused *string           `yaml:"refused"`
}

func (e expander) fate(node *yaml.Node) (Fate, error) {
	switch {
	case node.Kind == yaml.ScalarNode && node.Value == "folded":
		return Fate{Folded: 1}, nil
	case node.Kind == yaml.ScalarNode && node.Value == "ignored":
		return Fate{Ignored: true}, nil
	case node.Kind != yaml.MappingNode:
		return Fate{}, errors.New("write folded, ignored, {folded: N}, {dead: {offset: reason}} or {refused: reason}")
	}
	var t fateText
	if err := node.Decode(&t); err != nil {
		return Fate{}, err
	}
	f := Fate{Folded: t.Folded, Holds: t.Holds, Dead: map[int]string{}}
	if t.Refused != nil {
		f.Refused, f.Reason = true, *t.Refused
	}
	for column, value := range f.Holds {
		f.Holds[column] = e.text(value)
	}
	for i := 0; i+1 < len(t.Dead.Content); i += 2 {
		first, last, err := offsets(t.Dead.Content[i].Value)
		if err != nil {
			return Fate{}, err
		}
		for offset := first; offset <= last; offset++ {
			f.Dead[offset] = e.text(t.Dead.Content[i+1].Value)
		}
	}
	return f, nil
}

// offsets reads all, 7 or 7..9.
func offsets(text string) (first, last int, err error) {
	if text == "all" {
		return -1, -1, nil
	}
	from, to, several := strings.Cut(text, "..")
	if !several {
		to = from
	}
	if first, err = strconv.Atoi(from); err == nil {
		last, err = strconv.Atoi(to)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no offset: write all, 7 or 7..9", text)
	}
	return first, last, nil
}
