package alerts

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"weir/pkg/alert"
)

// The message of an alert holds names that gateways sent.
func TestPrint_ShowsNothingThatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;pwned\a\u009b2J\u202e\r\nfired_at  scope\x7f"
	a := alert.Alert{Rule: evil, Message: evil, Scope: evil}
	for name, print := range map[string]func(*bytes.Buffer) error{
		"table":          func(out *bytes.Buffer) error { return printTable(out, []alert.Alert{a}) },
		"JSON":           func(out *bytes.Buffer) error { return printJSON(out, a) },
		"followed":       func(out *bytes.Buffer) error { return printOne(out, filter{}, a) },
		"followed, JSON": func(out *bytes.Buffer) error { return printOne(out, filter{json: true}, a) },
	} {
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 {
			t.Errorf("%s: %q does not print", name, text[at:])
		}
		if lines := strings.Count(text, "\n"); lines > 2 {
			t.Errorf("%s: an alert in %d lines", name, lines)
		}
	}
}
