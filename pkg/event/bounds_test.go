package event

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// decodeOne decodes one event and returns its time, or why it is refused.
func decodeOne(t *testing.T, s *Schema, event string) (time.Time, string) {
	t.Helper()
	columns := NewColumns(s, NewDictionary())
	var d Decoder
	n, rejects, err := d.Decode(Body{Data: []byte(event)}, Origin{Stored: stored}, columns)
	if err != nil || n != 1 {
		t.Fatalf("%s: %d events, error %v", event, n, err)
	}
	if len(rejects) > 0 {
		return time.Time{}, rejects[0].Reason
	}
	return time.UnixMicro(columns.Times[0]).UTC(), ""
}

func TestDecode_BoundsAreMeasuredFromTheArrival(t *testing.T) {
	t.Parallel()
	s := testSchema()
	s.Future, s.Past = time.Hour, 90*24*time.Hour
	arrival := time.UnixMicro(stored).UTC()
	for offset, want := range map[time.Duration]string{
		0:                                   "",
		time.Hour:                           "",
		time.Hour + time.Millisecond:        "at: 2026-11-22T11:00:00.001Z lies more than 1h0m0s after the time at which the stream took the message (2026-11-22T10:00:00Z)",
		-90 * 24 * time.Hour:                "",
		-90*24*time.Hour - time.Millisecond: "at: 2026-08-24T09:59:59.999Z lies more than 2160h0m0s before the time at which the stream took the message (2026-11-22T10:00:00Z)",
		-365 * 24 * time.Hour:               "at: 2025-11-22T10:00:00Z lies more than 2160h0m0s before the time at which the stream took the message (2026-11-22T10:00:00Z)",
	} {
		if _, got := decodeOne(t, s, fmt.Sprintf(`{"at":%d}`, arrival.Add(offset).UnixMilli())); got != want {
			t.Errorf("%s from the arrival: got %q, want %q", offset, got, want)
		}
	}
	s.Future, s.Past = 0, 0
	for _, at := range []string{"1970-01-01T00:00:01Z", "9999-12-31T23:59:59Z"} {
		if got, reason := decodeOne(t, s, `{"at":"`+at+`"}`); reason != "" || got.Format(time.RFC3339) != at {
			t.Errorf("without bounds: %s is %s, refused as %q", at, got, reason)
		}
	}
}

func TestDecode_AbsurdTimesAreRefusedWithoutBounds(t *testing.T) {
	t.Parallel()
	for unit, numbers := range map[time.Duration][]string{
		time.Second:      {"-1", "0", "253402300800", "9223372036854775807", "1e300", "1795341599123"}, // the last are ms
		time.Nanosecond:  {"-1", "999"},                                                                // before the first microsecond
		time.Microsecond: {"9223372036854775808"},
	} {
		s := testSchema()
		s.Future, s.Attributes[0].Unit = 0, unit
		for _, n := range numbers {
			if got, reason := decodeOne(t, s, `{"at":`+n+`}`); !strings.HasPrefix(reason, "at: ") {
				t.Errorf("%s in %s is taken as %s", n, unit, got)
			}
		}
	}
}

func TestDecode_TextTimesWithAndWithoutOffset(t *testing.T) {
	t.Parallel()
	s := testSchema()
	for text, want := range map[string]string{
		"2026-11-22T09:59:59Z":           "2026-11-22T09:59:59Z",
		"2026-11-22T15:29:59.5+05:30":    "2026-11-22T09:59:59.5Z",
		"2026-11-22T09:59:59.123456":     "2026-11-22T09:59:59.123456Z",
		"2026-11-22 09:59:59":            "2026-11-22T09:59:59Z",
		"2026-11-22 09:59:59.25":         "2026-11-22T09:59:59.25Z",
		"2026-11-22 15:29:59 +05:30":     "2026-11-22T09:59:59Z",
		"2026-11-22 05:59:59.999 -04:00": "2026-11-22T09:59:59.999Z",
	} {
		if got, reason := decodeOne(t, s, `{"at":"`+text+`"}`); got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: got %s, refused as %q; want %s", text, got.Format(time.RFC3339Nano), reason, want)
		}
	}
}

func TestDecode_FillsEmptyTextsFromWhatIsSent(t *testing.T) {
	t.Parallel()
	// c stands before what it is computed from; long is derived from it.
	s := &Schema{Name: "s", EventTime: -1, Attributes: []Attribute{
		{Name: "c", Kind: String, IfEmpty: func(c *Columns, row int) (Cell, error) {
			if c.Text(1, row) == "bad" {
				return 0, fmt.Errorf("no path")
			}
			return c.Dict.Intern("<" + c.Text(1, row) + ">"), nil
		}},
		{Name: "path", Kind: String, Default: Value{Text: "None"}},
		{Name: "long", Kind: Bool, Derive: func(c *Columns, row int) (Cell, error) { return BoolCell(len(c.Text(0, row)) > 4), nil }},
	}}
	s.Seal()
	columns := NewColumns(s, NewDictionary())
	var d Decoder
	_, rejects, err := d.Decode(Body{Data: []byte(`[{"path":"abc"},{"c":"","path":"d"},{"c":null},{"c":"sent","path":"e"},{"path":"bad"},{"c":"f","path":"bad"}]`)}, Origin{}, columns)
	if err != nil || len(rejects) != 1 || rejects[0].Reason != "c: no path" || rejects[0].Offset != 4 {
		t.Errorf("rejects %v, error %v", rejects, err)
	}
	var got []string
	for row := range columns.Len() {
		got = append(got, fmt.Sprint(columns.Text(0, row), columns.Cells[2][row]))
	}
	if want := "[<abc>1 <d>0 <None>1 sent0 f0]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
