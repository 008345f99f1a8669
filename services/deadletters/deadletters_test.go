package deadletters

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
)

// What is in a dead letter was written by strangers.
func TestPrint_ShowsNothingThatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;pwned\a\u009b2J\u202e\r\nid  reason\x7f"
	letters := []query.DeadLetter{
		query.NewDeadLetter(store.DeadLetter{Reason: evil, Source: evil, Subject: "events.request." + evil, MsgID: evil, Payload: []byte(evil)}),
		query.NewDeadLetter(store.DeadLetter{Reason: "x", Payload: []byte("\xff" + evil)}),
	}
	for _, asJSON := range []bool{false, true} {
		for name, print := range map[string]func(*cobra.Command) error{
			"list":          func(cmd *cobra.Command) error { return printList(cmd, letters) },
			"show":          func(cmd *cobra.Command) error { return printOne(cmd, letters[0]) },
			"show no UTF-8": func(cmd *cobra.Command) error { return printOne(cmd, letters[1]) },
		} {
			var out bytes.Buffer
			cmd := &cobra.Command{}
			cmd.Flags().Bool("json", asJSON, "")
			cmd.SetOut(&out)
			if err := print(cmd); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 {
				t.Errorf("%s, JSON %v: %q does not print", name, asJSON, text[at:])
			}
			if lines := strings.Count(text, "\n"); name == "list" && !asJSON && lines != len(letters)+1 {
				t.Errorf("%d letters in %d lines", len(letters), lines)
			}
			var back query.DeadLetter
			if asJSON && name == "show" && (json.Unmarshal(out.Bytes(), &back) != nil || back.Reason != evil || back.Payload != evil) {
				t.Errorf("JSON gives back %q", back.Reason)
			}
		}
	}
}

func TestShow_PrintsTextThatCanBePasted(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		"{\"apiName\": \"Pizza \\\"größe\\\"\",\n\t\"responseTime\": \"x\"}": "{\"apiName\": \"Pizza \\\"größe\\\"\",\n\t\"responseTime\": \"x\"}",
		"\"a\x1b[2J\u202e\U000e0001\"":                                       `"a\u001b[2J\u202e\udb40\udc01"`,
	} {
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.Flags().Bool("json", false, "")
		cmd.SetOut(&out)
		if err := printOne(cmd, query.NewDeadLetter(store.DeadLetter{Payload: []byte(payload)})); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "\n\n"+want+"\n") {
			t.Errorf("%q: got %q", payload, out.String())
		}
		var was, is any
		if json.Unmarshal([]byte(want), &is) != nil || json.Valid([]byte(payload)) && (json.Unmarshal([]byte(payload), &was) != nil || !reflect.DeepEqual(was, is)) {
			t.Errorf("%q is not the JSON that was sent", want)
		}
	}
}

func TestList_CutsWhatIsLongAndShowDoesNot(t *testing.T) {
	t.Parallel()
	long := "events.request." + strings.Repeat("ö", 3000)
	letters := []query.DeadLetter{{ID: 1, Subject: long, Reason: long, Source: long}, {ID: 2, Subject: "events.request.gw", Reason: "x"}}
	var list, one bytes.Buffer
	for out, print := range map[*bytes.Buffer]func(*cobra.Command) error{
		&list: func(cmd *cobra.Command) error { return printList(cmd, letters) },
		&one:  func(cmd *cobra.Command) error { return printOne(cmd, letters[0]) },
	} {
		cmd := &cobra.Command{}
		cmd.SetOut(out)
		if err := print(cmd); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(list.String()) {
		if n := len([]rune(line)); n > 500 || strings.Contains(line, "gw") && n > 170 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	if !strings.Contains(list.String(), "ö…") || strings.Count(one.String(), long) != 3 {
		t.Errorf("list:\n%s\nshow:\n%s", list.String(), one.String())
	}
}
