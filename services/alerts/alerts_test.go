package alerts

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/pkg/alert"
	"weir/pkg/badinput"
	"weir/pkg/query"
	"weir/pkg/store"
)

// The message of an alert holds names that gateways sent.
func TestPrint_ShowsNothingThatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;pwned\a\u009b2J\u202e\r\nfired_at  scope\x7f"
	a := alert.Alert{Rule: evil, Message: evil, Scope: evil}
	for name, print := range map[string]func(*bytes.Buffer) error{
		"table":          func(out *bytes.Buffer) error { return printTable(out, []alert.Alert{a}) },
		"JSON":           func(out *bytes.Buffer) error { return printJSON(out, a) },
		"followed":       func(out *bytes.Buffer) error { return printOne(out, false, a) },
		"followed, JSON": func(out *bytes.Buffer) error { return printOne(out, true, a) },
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

// So does what people write of them, and the names on the board.
func TestPrint_ShowsNothingOfWhatIsKnownThatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;pwned\a\u009b2J\u202e\r\nid  x\x7f"
	texts := map[string]string{evil: evil}
	a := alert.Alert{
		ID: evil, FiringID: evil, Rule: evil, Case: evil, Scope: evil, State: evil, Key: texts, Message: evil, Details: texts, Labels: texts,
		Stakeholder: alert.Stakeholder{Role: evil, User: evil, Tenant: evil}, Reason: evil, ShardID: evil,
	}
	silence := alert.Silence{Rule: evil, Match: texts, By: evil, Comment: evil}
	known := query.Alert{
		Alert: a, Resolution: &a, Ack: &alert.Ack{By: evil, Comment: evil}, Silences: []alert.Silence{silence},
		Notifications: []store.Notification{{Notifier: evil, State: evil, Sends: 1, Attempts: 1, LastError: evil}},
	}
	for _, asJSON := range []bool{false, true} {
		for name, print := range map[string]func(*cobra.Command) error{
			"alert":    func(cmd *cobra.Command) error { return printAlert(cmd, &known) },
			"silences": func(cmd *cobra.Command) error { return printSilences(cmd, []alert.Silence{silence}) },
			"board": func(cmd *cobra.Command) error {
				return printBoard(cmd, []query.Availability{{APIName: evil, APIVersion: evil, Tenant: evil, State: evil, Rule: evil}})
			},
			"line": func(cmd *cobra.Command) error { return printLine(cmd, evil) },
		} {
			var out bytes.Buffer
			cmd := &cobra.Command{}
			cmd.Flags().Bool("json", asJSON, "")
			cmd.SetOut(&out)
			if err := print(cmd); err != nil {
				t.Fatal(err)
			}
			if at := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 || strings.Contains(out.String(), "\nid  x") {
				t.Errorf("%s, JSON %v: %q does not print", name, asJSON, out.String())
			}
		}
	}
}

func TestCommand_IsListByItselfAndHasItsFlags(t *testing.T) {
	t.Parallel()
	cmd := Command()
	list, _, err := cmd.Find([]string{"list"})
	if err != nil {
		t.Fatal(err)
	}
	list.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if own := cmd.Flags().Lookup(f.Name); own == nil || own.DefValue != f.DefValue || own.Usage != f.Usage {
			t.Errorf("weir alerts has no --%s as weir alerts list has", f.Name)
		}
	})
}

// Whoever may publish alerts may publish anything: it is an alert that prints,
// or an error.
func FuzzPrint(f *testing.F) {
	f.Add([]byte(`{"id":"x","rule":"r","scope":"local","state":"firing","key":{"a":"b"},"severity":1,"message":"m","value":1.5,"threshold":1,"fired_at":"2026-11-22T10:00:00Z"}`))
	f.Add([]byte(`{"message":"\u001b[2J\u009b\u202e","fired_at":"9999-12-31T23:59:59Z"}`))
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Body) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var a alert.Alert
		if json.Unmarshal(payload, &a) != nil {
			return
		}
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			if err := printOne(&out, asJSON, a); err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSuffix(out.String(), "\n")
			if at := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); at >= 0 {
				t.Fatalf("%q does not print in one line", text[at:])
			}
			var again alert.Alert
			if asJSON && (json.Unmarshal(out.Bytes(), &again) != nil || again.Message != a.Message || again.Rule != a.Rule) {
				t.Fatalf("%q is printed as %s", payload, text)
			}
		}
	})
}
