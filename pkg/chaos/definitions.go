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
// all levels are kept for ever, and no alert keeps its key quiet.
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
		if err := os.WriteFile(filepath.Join(dir, name), []byte(keepAll(string(text))), 0o600); err != nil {
			return fmt.Errorf("write the definitions: %w", err)
		}
	}
	return nil
}

// keepAll replaces what the lines of a definition say of retention and of quiet keys.
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
		if strings.HasPrefix(line, "    suppress:") {
			line = "    suppress: 0 seconds\n"
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}
