package chaos

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"weir/streams"
)

// writeDefinitions puts the built-in pack into a directory, changed so that every event can be accounted for:
// all levels are kept for ever, no alert keeps its key quiet, and of the rules there are those that the oracle knows.
func writeDefinitions(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := fs.Glob(streams.Files, "*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := streams.Files.ReadFile(name)
		if err != nil {
			return err
		}
		changed := keepAll(string(text))
		if name == "alerts.yaml" {
			changed = keepKnownRules(changed)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(changed), 0o600); err != nil {
			return fmt.Errorf("write the definitions: %w", err)
		}
	}
	return nil
}

// keepAll replaces what the lines of a definition say of retention.
func keepAll(text string) string {
	const retention = "    retention:"
	var out []string
	inside := false
	for line := range strings.Lines(text) {
		if inside && strings.HasPrefix(line, "      ") {
			continue
		}
		if inside = strings.HasPrefix(line, retention); inside {
			line = retention + " {seconds: all, minutes: all, hours: all, days: all, months: all, years: all}\n"
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// Rules of the built-in pack that the load gives cause to.
const (
	ruleSlow  = "abnormal-response-time"
	ruleBurst = "tier-crossing"
)

// keepKnownRules leaves out the other rules, and lets no alert keep its key quiet. Throttled calls are counted over all workers alone, and within four minutes, so
// that their steps are two seconds long: what is decided at the end of a step need not be waited for.
func keepKnownRules(text string) string {
	var out []string
	keep := true
	for line := range strings.Lines(text) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ":"); ok && strings.HasPrefix(line, "  ") && line[2] != ' ' {
			keep = name == ruleSlow || name == ruleBurst
			if line += "    suppress: 0 seconds\n"; name == ruleBurst {
				line += "    scope: global\n"
			}
		}
		if line == "    window: 1 hour\n" {
			line = "    window: 4 minutes\n"
		}
		if keep {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
