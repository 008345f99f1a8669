package definition

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// File is a YAML file that holds no definitions and is read as strictly: unknown
// and repeated names are problems, all of them are collected, and each has its line.
type File struct{ reader reader }

// ReadFile gives read the root of the file's document. The error joins all that
// is wrong, one *Problem each, in the order of the lines.
func ReadFile(name string, data []byte, read func(file File, root *yaml.Node)) error {
	var all problems
	r := reader{file: name, problems: &all}
	if root := r.parse(data); root != nil {
		read(File{r}, root)
	}
	return all.join()
}

// Within returns a File whose problems begin with what.
func (f File) Within(format string, args ...any) File { return File{f.reader.within(format, args...)} }

// Bad adds a problem at the node.
func (f File) Bad(n *yaml.Node, format string, args ...any) { f.reader.bad(n, format, args...) }

// Entries calls each for all entries of a mapping, in order.
func (f File) Entries(n *yaml.Node, each func(key, value *yaml.Node)) { f.reader.entries(n, each) }

// Fields reads a mapping whose names are fixed.
func (f File) Fields(n *yaml.Node, known map[string]func(value *yaml.Node)) {
	f.reader.fields(n, known)
}

// Text is a single value as it was written; "" after a problem.
func (f File) Text(name string, n *yaml.Node) string {
	var s scalar
	f.reader.scalar(name, &s)(n)
	return s.text()
}

// Texts are the values of a list, or of one of them alone, each with where it is.
func (f File) Texts(name string, n *yaml.Node) []*yaml.Node {
	var list []scalar
	f.reader.list(name, &list)(n)
	nodes := make([]*yaml.Node, len(list))
	for i, s := range list {
		nodes[i] = s.Node
	}
	return nodes
}

// Items are the items of a list of mappings.
func (f File) Items(name string, n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		f.reader.bad(n, "%s must be a list, it is %s", name, describe(n))
		return nil
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = resolve(item)
	}
	return items
}

// Int is an integer; 0 after a problem.
func (f File) Int(name string, n *yaml.Node) int64 {
	var s scalar
	if f.reader.scalar(name, &s)(n); !s.given() {
		return 0
	}
	return f.reader.int(name, s)
}

// Duration is a time such as "10 minutes"; 0 after a problem.
func (f File) Duration(name string, n *yaml.Node) time.Duration {
	var s scalar
	if f.reader.scalar(name, &s)(n); !s.given() {
		return 0
	}
	return f.reader.duration(name, s)
}

// Suggest is "; did you mean …?" with the known name that is nearest to name, or
// the known ones where they are few, or nothing.
func Suggest(name string, known []string) string { return suggest(name, known) }
