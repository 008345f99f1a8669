package query_test

import (
	"encoding/csv"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"unicode"

	"weir/pkg/badinput"
	"weir/pkg/query"
)

func sample() *query.Answer {
	huge, _ := new(big.Int).SetString("27670116110564327421", 10)
	return &query.Answer{
		Columns: []string{"apiName", "n", "=sum(x)"},
		Rows: [][]any{
			{"Ölçü", int64(5), 0.25},
			{"=cmd|' /C calc'!A0", int64(-12), nil},
			{"a,\"b\"\x1b[2J", huge, json.Number("1e21")},
		},
	}
}

func TestWriteTable_AlignsAndKeepsTheTerminalSafe(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := sample().WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	want := `apiName                                n  =sum(x)
Ölçü                                   5     0.25
=cmd|' /C calc'!A0                   -12
a,"b"�[2J           27670116110564327421     1e21
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestWriteCSV_DefusesFormulasButKeepsNumbers(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := sample().WriteCSV(&out); err != nil {
		t.Fatal(err)
	}
	want := "apiName,n,'=sum(x)\nÖlçü,5,0.25\n'=cmd|' /C calc'!A0,-12,\n\"a,\"\"b\"\"�[2J\",27670116110564327421,1e21\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// Whatever is in a text, no way of printing moves a cursor, and a spreadsheet
// runs nothing.
func TestWrite_IsSafeWhateverTheTextsHold(t *testing.T) {
	t.Parallel()
	answer := &query.Answer{Columns: []string{"s", "n"}}
	for _, s := range []string{"\x1b]0;x\a", "\u009b31m", "a\x7fb", "\u202egpj", "=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "＠x", "\U000E0041", "\x00", "\xff\xfe"} {
		answer.Rows = append(answer.Rows, []any{s, int64(-1)})
	}
	if err := badinput.Seeds(func(m badinput.Message) { answer.Rows = append(answer.Rows, []any{string(m.Body), int64(-1)}) }); err != nil {
		t.Fatal(err)
	}
	var table, separated, object strings.Builder
	if err := answer.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(table.String(), "\n"); lines != len(answer.Rows)+1 {
		t.Errorf("the table has %d lines for %d rows", lines, len(answer.Rows))
	}
	if err := answer.WriteCSV(&separated); err != nil {
		t.Fatal(err)
	}
	if err := answer.WriteJSON(query.TerminalJSON(&object)); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"table": table.String(), "JSON": object.String()} {
		if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 {
			t.Errorf("%s: %q does not print", what, text[at:min(len(text), at+20)])
		}
	}
	if strings.ContainsAny(separated.String(), "\x00\x07\x1b\x7f\u009b") {
		t.Error("the CSV has control characters")
	}
	lines, err := csv.NewReader(strings.NewReader(separated.String())).ReadAll()
	if err != nil || len(lines) != len(answer.Rows)+1 {
		t.Fatalf("%d lines of CSV, error %v", len(lines), err)
	}
	for _, line := range lines {
		if strings.ContainsAny(line[0][:min(1, len(line[0]))], "=+-@\t\r\n") || strings.HasPrefix(line[0], "＝") || strings.HasPrefix(line[0], "＠") {
			t.Errorf("%q is a formula", line[0])
		}
	}
	var again query.Answer
	if err := json.Unmarshal([]byte(object.String()), &again); err != nil {
		t.Fatal(err)
	}
	for i, row := range answer.Rows {
		if want := strings.ToValidUTF8(row[0].(string), "\uFFFD"); again.Rows[i][0] != want && strings.ToValidUTF8(row[0].(string), "") == row[0] {
			t.Errorf("JSON gives back %q for %q", again.Rows[i][0], want)
		}
	}
}
