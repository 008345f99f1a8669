package thresholds

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"weir/pkg/alert"
	"weir/pkg/query"
)

// What is learned has names that gateways sent.
func TestPrint_ShowsNothingThatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;pwned\a\u009b2J\u202e\r\nrule  case\x7f"
	list := []query.Threshold{{Threshold: alert.Threshold{Rule: evil, Case: evil, Dimensions: alert.Dimensions{API: evil, Tenant: evil}, Value: 1e21}, By: evil, At: time.Unix(0, 0)}}
	for name, print := range map[string]func(*bytes.Buffer) error{
		"table": func(out *bytes.Buffer) error { return printTable(out, list) },
		"JSON":  func(out *bytes.Buffer) error { return printJSON(out, list) },
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
			t.Errorf("%s: a threshold in %d lines", name, lines)
		}
		var again query.Threshold
		if name == "JSON" && (json.Unmarshal(out.Bytes(), &again) != nil || again.API != evil || again.Value != 1e21) {
			t.Errorf("got %s", text)
		}
	}
}

func TestPrint_TellsWhatIsSetFromWhatIsLearned(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("", 3600))
	var out bytes.Buffer
	err := printTable(&out, []query.Threshold{
		{Threshold: alert.Threshold{Rule: "slow", Value: 2000}, By: "ann", At: at},
		{Threshold: alert.Threshold{Rule: "slow", Case: "c", Dimensions: alert.Dimensions{API: "pizza"}, Value: 0.25, Learned: true}, At: at},
	})
	want := `
rule  case  for         threshold  by       at
slow  all   everything       2000  ann      2026-11-23T11:00:00Z
slow  c     api=pizza        0.25  learned  2026-11-23T11:00:00Z
`
	if got := "\n" + out.String(); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestSet_SaysHowANegativeThresholdIsWritten(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"-5": "RULE -- -5", "-0.5": "RULE -- -0.5", "-x": "unknown shorthand flag"} {
		cmd := Command()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"set", "slow", value})
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want something with %q", value, err, want)
		}
	}
}
