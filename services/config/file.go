package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileVariable names the YAML file where --config does not.
const fileVariable = envPrefix + "CONFIG"

// unreadable is that there is nothing to read settings from, which is wrong usage too.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// ExitCode makes weir end as after any other wrong usage.
func (unreadable) ExitCode() int { return 2 }

// fileLayer reads the YAML file at path. A name that is no setting, one that stands there twice and
// a value of the wrong shape are problems, each with its line. An error means that nothing could be read.
func fileLayer(path string, names []string) (layer, []string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, unreadable{fmt.Errorf("read the configuration file: %w", err)}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, nil, unreadable{fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	r := fileReader{path: path, names: names, out: layer{}}
	if len(document.Content) == 1 { // 0: an empty file
		r.section("", document.Content[0])
	}
	return r.out, r.problems, nil
}

type fileReader struct {
	path     string
	names    []string
	out      layer
	problems []string
}

func (r *fileReader) problem(at *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf("%s:%d: ", r.path, at.Line)+fmt.Sprintf(format, args...))
}

// section reads a mapping whose settings all start with prefix ("" or "postgres.").
func (r *fileReader) section(prefix string, node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // the heading alone
	}
	if node.Kind != yaml.MappingNode {
		r.problem(node, "%s must be a mapping of names to values", orWhole(strings.TrimSuffix(prefix, ".")))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		name := prefix + key.Value
		switch {
		case seen[name]:
			r.problem(key, "%s is given a second time", name)
		case slices.Contains(r.names, name):
			r.setting(name, key, value)
		case r.isSection(name):
			r.section(name+".", value)
		default:
			r.problem(key, "%s is not known%s", name, Suggest(name, append(r.sections(), r.names...)))
		}
		seen[name] = true
	}
}

func (r *fileReader) setting(name string, key, value *yaml.Node) {
	switch {
	case value.Kind != yaml.ScalarNode:
		r.problem(value, "%s must be one value", name)
	case value.Tag == "!!null":
		r.problem(key, `%s has no value; write "" for an empty one, or leave it out`, name)
	default:
		r.out[name] = given{value.Value, fmt.Sprintf("%s:%d", r.path, key.Line)}
	}
}

func (r *fileReader) isSection(name string) bool {
	return slices.Contains(r.sections(), name)
}

func (r *fileReader) sections() []string {
	var list []string
	for _, name := range r.names {
		if section, _, nested := strings.Cut(name, "."); nested && !slices.Contains(list, section) {
			list = append(list, section)
		}
	}
	return list
}

func orWhole(name string) string {
	if name == "" {
		return "the configuration"
	}
	return name
}

// filePath is the file to read: --config, else WEIR_CONFIG, else none ("").
func filePath(flag string, environ []string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	for _, line := range environ {
		if path, ok := strings.CutPrefix(line, fileVariable+"="); ok {
			if path == "" {
				return "", unreadable{errors.New(fileVariable + " is set, but empty; unset it, or name a file")}
			}
			return path, nil
		}
	}
	return "", nil
}
