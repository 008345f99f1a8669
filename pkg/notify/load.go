package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/pkg/alert"
	"weir/pkg/definition"
)

// Options are what a file is read with.
type Options struct {
	// Rules are the names of the rules that there are; empty: any name will do.
	Rules []string
	// Env looks up environment variables; nil: os.LookupEnv.
	Env func(name string) (string, bool)
	// Read reads a file; nil: os.ReadFile, relative to the folder of the notifiers' file.
	Read func(path string) ([]byte, error)
}

const (
	defaultRepeat = 4 * time.Hour
	leastRepeat   = time.Minute
	mostTimeout   = time.Minute
	maxName       = 40
	maxFile       = 64 << 10 // bytes of a file that the notifiers name
)

// Load reads the notifiers from a YAML file. The error joins all that is wrong,
// one *definition.Problem each; none shows a secret.
func Load(path string, options Options) ([]*Target, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read notifiers: %w", err)
	}
	if options.Read == nil {
		folder := filepath.Dir(path)
		options.Read = func(name string) ([]byte, error) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(folder, name)
			}
			return os.ReadFile(name)
		}
	}
	return Parse(path, data, options)
}

// Parse is Load of what the file of that name holds. Without [Options.Read] no
// other file is read.
func Parse(name string, data []byte, options Options) ([]*Target, error) {
	if options.Env == nil {
		options.Env = os.LookupEnv
	}
	if options.Read == nil {
		options.Read = func(string) ([]byte, error) { return nil, errors.New("no files are read here") }
	}
	var targets []*Target
	err := definition.ReadFile(name, data, func(file definition.File, root *yaml.Node) {
		given := false
		file.Fields(root, map[string]func(*yaml.Node){"notifiers": func(n *yaml.Node) {
			given = true
			file.Entries(n, func(key, value *yaml.Node) {
				l := loader{File: file.Within("notifier %q", key.Value), options: options}
				targets = append(targets, l.target(key, value))
			})
		}})
		if !given {
			file.Bad(root, "notifiers is missing: a mapping of names to notifiers")
		}
	})
	if err != nil {
		return nil, err
	}
	return targets, nil
}

// loader reads one notifier, or a part of one.
type loader struct {
	definition.File
	options Options
}

func (l loader) within(format string, args ...any) loader {
	return loader{File: l.Within(format, args...), options: l.options}
}

var targetName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (l loader) target(key, n *yaml.Node) *Target {
	if !targetName.MatchString(key.Value) || len(key.Value) > maxName {
		l.Bad(key, "a name is 1 to %d lower-case letters, digits and single hyphens, as in on-call", maxName)
	}
	t := &Target{Name: key.Value, Repeat: defaultRepeat}
	fields := map[string]func(*yaml.Node){
		"type":    func(*yaml.Node) {}, // read before
		"match":   func(n *yaml.Node) { t.Match = l.match(n) },
		"timeout": func(n *yaml.Node) { t.Timeout = l.between("timeout", n, time.Second, mostTimeout) },
		"repeat":  func(n *yaml.Node) { t.Repeat = l.repeat(n) },
	}
	t.Type = l.typeOf(key, n)
	var build func() Notifier
	switch t.Type {
	case "alertmanager":
		delete(fields, "repeat") // it repeats by itself
		t.Repeat = resendEvery
		build = l.alertmanager(key, fields)
	case "webhook":
		build = l.webhook(key, fields)
	case "email":
		build = l.email(key, fields)
	default:
		return t
	}
	l.Fields(n, fields)
	t.Notifier = build()
	return t
}

// typeOf is the notifier's type, which decides what else it may have.
func (l loader) typeOf(key, n *yaml.Node) (name string) {
	types := []string{"alertmanager", "email", "webhook"}
	if n.Kind != yaml.MappingNode {
		l.Bad(n, "must be a mapping with a type: %s", strings.Join(types, ", "))
		return ""
	}
	given := false
	for i := 0; i+1 < len(n.Content) && !given; i += 2 {
		if n.Content[i].Value == "type" {
			given = true
			name = l.Text("type", n.Content[i+1])
			if name != "" && !slices.Contains(types, name) {
				l.Bad(n.Content[i+1], "unknown type %q%s", name, definition.Suggest(name, types))
			}
		}
	}
	if !given {
		l.Bad(key, "type is missing: one of %s", strings.Join(types, ", "))
	}
	return name
}

func (l loader) between(name string, n *yaml.Node, least, most time.Duration) time.Duration {
	d := l.Duration(name, n)
	if d < least || d > most {
		l.Bad(n, "%s must be %s to %s", name, least, most)
	}
	return d
}

func (l loader) repeat(n *yaml.Node) time.Duration {
	if n.Value == "never" {
		return 0
	}
	return l.between("repeat", n, leastRepeat, never)
}

func (l loader) match(n *yaml.Node) (m Match) {
	l = l.within("match")
	l.Fields(n, map[string]func(*yaml.Node){
		"scope":    func(n *yaml.Node) { m.Scopes = l.scopes(n) },
		"rules":    func(n *yaml.Node) { m.Rules = l.rules(n) },
		"tenant":   func(n *yaml.Node) { m.Tenant = l.Text("tenant", n) },
		"severity": func(n *yaml.Node) { m.Severity = l.severity(n) },
		"labels": func(n *yaml.Node) {
			m.Labels = map[string]string{}
			l.Entries(n, func(key, value *yaml.Node) { m.Labels[key.Value] = l.Text("a label", value) })
		},
	})
	return m
}

func (l loader) scopes(n *yaml.Node) []alert.Scope {
	scopes := map[string][]alert.Scope{
		"global": {alert.ScopeGlobal}, "local": {alert.ScopeLocal}, "both": {alert.ScopeGlobal, alert.ScopeLocal},
	}
	text := l.Text("scope", n)
	if scopes[text] == nil && text != "" {
		l.Bad(n, "unknown scope %q%s", text, definition.Suggest(text, []string{"both", "global", "local"}))
	}
	return scopes[text]
}

func (l loader) severity(n *yaml.Node) int {
	severity := l.Int("severity", n)
	if severity < 1 || severity > 3 {
		l.Bad(n, "severity is the mildest that is told of: 1 (severe only), 2 (moderate too) or 3 (all)")
	}
	return int(severity)
}

func (l loader) rules(n *yaml.Node) (rules []string) {
	for _, item := range l.Texts("rules", n) {
		rules = append(rules, item.Value)
		if len(l.options.Rules) > 0 && !slices.Contains(l.options.Rules, item.Value) {
			l.Bad(item, "there is no rule %q%s", item.Value, definition.Suggest(item.Value, l.options.Rules))
		}
	}
	return rules
}
