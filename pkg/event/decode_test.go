package event

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/pkg/badinput"
)

// stored is when the test messages were stored: 2026-11-22T10:00:00Z.
const stored = 1_795_341_600_000_000

func testSchema() *Schema {
	zero := 0.0
	s := &Schema{
		Name: "request",
		Attributes: []Attribute{
			{Name: "at", Kind: Time, Unit: time.Millisecond, Required: true},
			{Name: "api", Kind: String, Default: Value{Text: "None"}},
			{Name: "duration", Kind: Int, Min: &zero},
			{Name: "ratio", Kind: Float, Default: Value{Cell: FloatCell(0.5)}},
			{Name: "hit", Kind: Bool},
			{Name: "slow", Kind: Bool, Derive: func(c *Columns, row int) (Cell, error) {
				if c.Cells[2][row] == 13 {
					return 0, errors.New("thirteen")
				}
				return BoolCell(c.Cells[2][row] > 1000), nil
			}},
		},
		EventTime: 0,
		Future:    time.Hour,
	}
	s.Seal()
	return s
}

func decodeText(t *testing.T, body Body) (*Columns, int, []Reject, error) {
	t.Helper()
	columns := NewColumns(testSchema(), NewDictionary())
	var d Decoder
	n, rejects, err := d.Decode(body, Origin{Message: 3, Sequence: 77, Stored: stored}, columns)
	for i := range columns.Cells {
		if len(columns.Cells[i]) != columns.Len() {
			t.Fatalf("attribute %d has %d cells for %d rows", i, len(columns.Cells[i]), columns.Len())
		}
	}
	if n-len(rejects) != columns.Len() && err == nil {
		t.Fatalf("%d events, %d rejects, %d rows", n, len(rejects), columns.Len())
	}
	return columns, n, rejects, err
}

func TestDecode_FillsColumns(t *testing.T) {
	t.Parallel()
	c, n, rejects, err := decodeText(t, Body{Data: []byte(`[
		{"at": 1795341599123, "api": "pets \"\u00e9\"", "duration": 1500, "ratio": 1e-3, "hit": true, "unknown": {"a": [1]}},
		{"at": "2026-11-22 09:59:59 +00:00", "api": null}]`)})
	if err != nil || n != 2 || len(rejects) != 0 {
		t.Fatalf("got %d events, rejects %v, error %v", n, rejects, err)
	}
	got := fmt.Sprintln(c.Times, c.Text(1, 0), c.Cells[2], c.Cells[3][0].Float(), c.Cells[4], c.Cells[5], c.Text(1, 1), c.Cells[3][1].Float(), c.Messages, c.Offsets, c.Sequences)
	want := `[1795341599123000 1795341599000000] pets "é" [1500 0] 0.001 [1 0] [1 0] None 0.5 [3 3] [0 1] [77 77]`
	if got := strings.TrimSpace(got); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecode_AcceptsEveryBodyForm(t *testing.T) {
	t.Parallel()
	const one = `{"at":1795341599123}`
	zip := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.Bytes()
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body Body
		want int
	}{
		"one object":         {Body{Data: []byte(one)}, 1},
		"array":              {Body{Data: []byte("[" + one + "," + one + "]")}, 2},
		"ndjson":             {Body{Data: []byte(one + "\n\n" + one + "\r\n"), ContentType: "application/x-ndjson"}, 2},
		"objects in a row":   {Body{Data: []byte(one + "\n" + one)}, 2},
		"pretty one":         {Body{Data: []byte("{\n  \"at\": 1795341599123\n}\n")}, 1},
		"gzip":               {Body{Data: zip(one), Encoding: "gzip"}, 1},
		"zstd":               {Body{Data: encoder.EncodeAll([]byte(one), nil), Encoding: "ZSTD"}, 1},
		"charset is no harm": {Body{Data: []byte(one), ContentType: "application/json; charset=utf-8"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, n, rejects, err := decodeText(t, c.body); err != nil || n != c.want || len(rejects) > 0 {
				t.Errorf("got %d events, rejects %v, error %v; want %d", n, rejects, err, c.want)
			}
		})
	}
}

func TestDecode_RejectsAnEventAndKeepsItsNeighbours(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ event, reason string }{
		"NUL":              {`{"at":1795341599123,"api":"a\u0000b"}`, "api: holds a NUL byte"},
		"negative":         {`{"at":1795341599123,"duration":-1}`, "duration: -1 is below 0"},
		"no time":          {`{"at":"yesterday"}`, `at: "yesterday" is no time`},
		"time missing":     {`{"api":"x"}`, "at is missing"},
		"time zero":        {`{"at":0}`, "at: 1970-01-01T00:00:00Z is no time of an event"},
		"far future":       {`{"at":1795345300000}`, "lies more than 1h0m0s after"},
		"year 10000":       {`{"at":999999999999999}`, "outside the years 1 to 9999"},
		"text for number":  {`{"at":1795341599123,"duration":"12"}`, "duration: want an integer, got a text"},
		"fraction":         {`{"at":1795341599123,"duration":1.5}`, "duration: 1.5 is no integer"},
		"huge":             {`{"at":1795341599123,"duration":9007199254740992}`, "9007199254740992 is no integer from -9007199254740991 to 9007199254740991 (2^53-1)"},
		"huge, as a float": {`{"at":1795341599123,"duration":9007199254740992.0}`, "is no integer from"},
		"no double":        {`{"at":1795341599123,"ratio":1e400}`, "ratio: 1e400 is no number"},
		"number for bool":  {`{"at":1795341599123,"hit":1}`, "hit: want true or false, got a number"},
		"twice":            {`{"at":1795341599123,"api":"a","api":"b"}`, "duplicate"},
		"not an object":    {`[1,2]`, "an event must be a JSON object, this is an array"},
		"nested":           {`{"at":1795341599123,"api":{"x":1}}`, "api: want a text, got an object"},
		"lone surrogate":   {`{"at":1795341599123,"api":"\ud800"}`, "invalid"},
		"bad UTF-8":        {"{\"at\":1795341599123,\"api\":\"\xff\"}", "invalid UTF-8"},
		"derived fails":    {`{"at":1795341599123,"duration":13}`, "slow: thirteen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := `{"at":1795341599123,"api":"good"}`
			columns, n, rejects, err := decodeText(t, Body{Data: []byte("[" + good + "," + c.event + "," + good + "]")})
			if err != nil || n != 3 || len(rejects) != 1 {
				t.Fatalf("got %d events, rejects %v, error %v", n, rejects, err)
			}
			if r := rejects[0]; r.Offset != 1 || !strings.Contains(r.Reason, c.reason) || string(r.Payload) != c.event {
				t.Errorf("got offset %d, reason %q, payload %s; want reason %q", r.Offset, r.Reason, r.Payload, c.reason)
			}
			if columns.Len() != 2 || columns.Text(1, 0) != "good" || columns.Text(1, 1) != "good" || columns.Offsets[1] != 2 {
				t.Errorf("the neighbours suffered: %d rows", columns.Len())
			}
		})
	}
}

func TestDecode_BrokenLineOfNDJSONIsOneReject(t *testing.T) {
	t.Parallel()
	_, n, rejects, err := decodeText(t, Body{ContentType: "application/x-ndjson", Data: []byte("{\"at\":1795341599123}\n{\"at\":\n{\"at\":1795341599123} x\n{\"at\":1795341599123}")})
	if err != nil || n != 4 || len(rejects) != 2 || rejects[0].Offset != 1 || rejects[1].Offset != 2 {
		t.Errorf("got %d events, rejects %v, error %v", n, rejects, err)
	}
}

func TestDecode_UndecodableMessageAddsNothing(t *testing.T) {
	t.Parallel()
	bomb := func() []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		zeros := make([]byte, 1<<20)
		for range MaxBody>>20 + 1 {
			_, _ = w.Write(zeros)
		}
		_ = w.Close()
		return b.Bytes()
	}
	for name, body := range map[string]Body{
		"empty":            {},
		"empty array":      {Data: []byte("[]")},
		"empty ndjson":     {Data: []byte("\n\n"), ContentType: "application/x-ndjson"},
		"cut off":          {Data: []byte(`[{"at":1795341599123},{"at":`)},
		"not JSON":         {Data: []byte("hello")},
		"byte order mark":  {Data: []byte("\xef\xbb\xbf{}")},
		"not gzip":         {Data: []byte("{}"), Encoding: "gzip"},
		"not zstd":         {Data: []byte("{}"), Encoding: "zstd"},
		"unknown encoding": {Data: []byte("{}"), Encoding: "br"},
		"gzip bomb":        {Data: bomb(), Encoding: "gzip"},
		"deep nesting":     {Data: []byte(strings.Repeat("[", 20_000))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			columns, n, rejects, err := decodeText(t, body)
			if !errors.Is(err, ErrUndecodable) || n != 0 || len(rejects) != 0 || columns.Len() != 0 {
				t.Errorf("got %d events, %d rows, rejects %v, error %v", n, columns.Len(), rejects, err)
			}
		})
	}
}

func TestDecode_TimeUnits(t *testing.T) {
	t.Parallel()
	for unit, number := range map[time.Duration]string{
		time.Second: "1795341599.5", time.Millisecond: "1795341599500", time.Microsecond: "1795341599500000", time.Nanosecond: "1795341599500000000",
	} {
		s := testSchema()
		s.Attributes[0].Unit = unit
		columns := NewColumns(s, NewDictionary())
		var d Decoder
		_, rejects, err := d.Decode(Body{Data: []byte(`{"at":` + number + `}`)}, Origin{Stored: stored}, columns)
		if err != nil || len(rejects) > 0 || columns.Times[0] != 1_795_341_599_500_000 {
			t.Errorf("unit %s: got %v, rejects %v, error %v", unit, columns.Times, rejects, err)
		}
	}
}

func TestDecode_NoTimeAttributeTakesTheTimeOfArrival(t *testing.T) {
	t.Parallel()
	s := testSchema()
	s.EventTime = -1
	s.Attributes[0].Required = false
	columns := NewColumns(s, NewDictionary())
	var d Decoder
	if _, _, err := d.Decode(Body{Data: []byte(`{}`)}, Origin{Stored: stored}, columns); err != nil || columns.Times[0] != stored {
		t.Errorf("got %v, error %v", columns.Times, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"at":1795341599123,"api":"x"}`, `[{"at":1},{}]`, "{\"at\":1795341599123}\n{", `{"at":"2026-11-22T10:00:00Z","ratio":-0}`, "\x00", `[[]]`, `{"at":1e30}`,
	} {
		f.Add([]byte(seed), "application/json", "")
		f.Add([]byte(seed), "application/x-ndjson", "")
	}
	err := badinput.Seeds(func(m badinput.Message) {
		f.Add(m.Body, m.Header("Content-Type"), m.Header("Content-Encoding"))
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, contentType, encoding string) {
		columns, n, rejects, err := decodeText(t, Body{Data: data, ContentType: contentType, Encoding: encoding})
		if err != nil && (n != 0 || len(rejects) != 0 || columns.Len() != 0) {
			t.Fatalf("an undecodable message left something: %d events, %d rows", n, columns.Len())
		}
		for row := range columns.Len() {
			if text := columns.Text(1, row); strings.Contains(text, "\x00") || strings.ToValidUTF8(text, "") != text {
				t.Fatalf("Postgres cannot hold %q", text)
			}
			if columns.Cells[2][row] < 0 || columns.Times[row] <= 0 || columns.Times[row] > stored+time.Hour.Microseconds() {
				t.Fatalf("row %d is out of bounds", row)
			}
		}
	})
}

// A time that is read is one that is written and read again as the same.
func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"2026-11-22T10:00:00Z", "2026-11-22 10:00:00.25 +05:30", "0001-01-01T00:00:00+18:00", "9999-12-31 23:59:59.999999999", "2016-12-31T23:59:60Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseTime(text)
		if err != nil || at < earliest || at > latest {
			return
		}
		if again, err := ParseTime(formatTime(at)); err != nil || again != at {
			t.Fatalf("%q is %d, written %s, which is read as %d, %v", text, at, formatTime(at), again, err)
		}
	})
}
