package query_test

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

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
	want := "apiName,n,'=sum(x)\nÖlçü,5,0.25\n'=cmd|' /C calc'!A0,-12,\n\"a,\"\"b\"\"\x1b[2J\",27670116110564327421,1e21\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
