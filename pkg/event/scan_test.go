package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/pkg/badinput"
)

// everySchema has attributes of every kind, and everything that can be done with
// them.
func everySchema() *Schema {
	zero, half := 0.0, 0.5
	s := &Schema{
		Name: "every",
		Attributes: []Attribute{
			{Name: "api", Kind: String, Default: Value{Text: "None"}},
			{Name: "at", Kind: Time, Required: true},
			{Name: "path", Kind: String},
			{Name: "template", Kind: String, IfEmpty: func(c *Columns, row int) (Cell, error) {
				if c.Text(2, row) == "bad" {
					return 0, errors.New("bad path")
				}
				return c.Dict.Intern("of " + c.Text(2, row)), nil
			}},
			{Name: "duration", Kind: Int, Min: &zero, Default: Value{Cell: 7}},
			{Name: "any", Kind: Int},
			{Name: "ratio", Kind: Float, Min: &half, Default: Value{Cell: FloatCell(0.5)}},
			{Name: "real", Kind: Float},
			{Name: "hit", Kind: Bool},
			{Name: "user", Kind: String, Required: true},
			{Name: "seconds", Kind: Time, Unit: time.Second},
			{Name: "nanos", Kind: Time, Unit: time.Nanosecond},
			{Name: "größe", Kind: Int},
			{Name: "slow", Kind: Bool, Derive: func(c *Columns, row int) (Cell, error) {
				if c.Cells[4][row] == 13 {
					return 0, errors.New("thirteen")
				}
				return BoolCell(c.Cells[4][row] > 1000), nil
			}},
			{Name: "upper", Kind: String, Derive: func(c *Columns, row int) (Cell, error) {
				return c.Dict.Intern(strings.ToUpper(c.Text(0, row))), nil
			}},
		},
		EventTime: 1,
		Future:    time.Hour,
		Past:      30 * 24 * time.Hour,
	}
	s.Seal()
	return s
}

// outcome writes down what a decoder makes of a body: all that anybody could see.
func outcome(d *Decoder, body Body, c *Columns) string {
	before := c.Len()
	origin := Origin{Message: 3, Sequence: 77, Stored: stored, Base: 5, Number: 9}
	n, rejects, err := d.Decode(body, origin, c)
	var b strings.Builder
	fmt.Fprintf(&b, "%d events of %d bytes, error %v\n", n, d.Size(), err)
	for _, r := range rejects {
		fmt.Fprintf(&b, "reject %d: %s: %q\n", r.Offset, r.Reason, r.Payload)
	}
	for row := before; row < c.Len(); row++ {
		fmt.Fprint(&b, c.Times[row], c.Sequences[row], c.Messages[row], c.Offsets[row], c.Checksums[row], c.Dropped[row])
		for at, a := range c.Schema.Attributes {
			if a.Kind == String {
				fmt.Fprintf(&b, " %q", c.Text(at, row))
			} else {
				fmt.Fprint(&b, " ", c.Cells[at][row])
			}
		}
		b.WriteByte('\n')
	}
	for at := range c.Cells {
		if len(c.Cells[at]) != c.Len() {
			fmt.Fprintf(&b, "attribute %d has %d cells for %d rows\n", at, len(c.Cells[at]), c.Len())
		}
	}
	return b.String()
}

// pair decodes everything twice, into columns that it keeps.
type pair struct {
	fast, exact               Decoder
	fastColumns, exactColumns *Columns
}

func newPair(schema *Schema) *pair {
	return &pair{
		exact:       Decoder{exact: true},
		fastColumns: NewColumns(schema, NewDictionary()), exactColumns: NewColumns(schema, NewDictionary()),
	}
}

// fataler is what tests, fuzz tests and property tests have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// check decodes the body in every form, more than once: the second time the
// scanner guesses right.
func (p *pair) check(t fataler, data []byte, encoding string) {
	t.Helper()
	for _, contentType := range []string{"application/json", "application/x-ndjson"} {
		body := Body{Data: data, ContentType: contentType, Encoding: encoding}
		want := outcome(&p.exact, body, p.exactColumns)
		for range 2 {
			if got := outcome(&p.fast, body, p.fastColumns); got != want {
				t.Fatalf("%q as %s:\n got %s\nwant %s", data, contentType, got, want)
			}
		}
	}
	p.exactColumns.Reset()
	p.fastColumns.Reset()
	origin := Origin{Stored: stored}
	got, want := p.fast.DecodeEvent(data, origin, 2, p.fastColumns), p.exact.DecodeEvent(data, origin, 2, p.exactColumns)
	if fmt.Sprint(got) != fmt.Sprint(want) || p.fastColumns.Len() != p.exactColumns.Len() {
		t.Fatalf("%q as one event:\n got %v\nwant %v", data, got, want)
	}
	p.exactColumns.Reset()
	p.fastColumns.Reset()
}

// plain are events that the scanner reads itself.
func plain() []string {
	return []string{
		`{"at":1795341599123,"user":"ann"}`,
		`{"api":"pets","at":1795341599123,"path":"/a/b","template":"","duration":1500,"any":-12,"ratio":0.75,"real":-1.5e-3,"hit":true,"user":"bob","seconds":1795341599,"nanos":1795341599123456789}`,
		"{ \"at\" : 1795341599123 ,\r\n\t\"user\": \"Größe 漢字 😀\", \"hit\": false, \"other\": \"x\", \"more\": -1.5E+7, \"größe\": 3 }",
		`{"user":"","api":"None","at":"2026-11-22T09:59:59.25Z","path":"","other":null,"more":true,"less":false}`,
		`{"at":1795341599123,"user":"ann","api":null,"duration":null,"slow":1,"upper":[],"seconds":"2026-11-22 09:59:59"}`,
		`{"at":1795341599123,"user":12.50,"api":true,"path":false,"nested":{"a":[1,{"b":"c"}],"d":"\""},"list":[],"escaped":"\u00e9\n"}`,
		`{"at":1795341599123,"user":"\"q\" \\ \/ \u00e9 \ud83d\ude00","properties":"{\"a\":1}","real":-0,"any":-0}`,
		`{"at":1795341599123,"user":"exactly 8","api":"12345678","path":"1234567","template":"0123456789abcdef"}`,
		`{"at":1795341599123,"user":"a","duration":13}`,
		`{"at":1795341599123,"user":"a","path":"bad"}`,
	}
}

// strange are values of which at least one reader of JSON thinks otherwise than
// another.
func strange() []string {
	return []string{
		`0`, `-0`, `-`, `+1`, `01`, `-01`, `1.`, `.5`, `1.0`, `12.0`, `1e3`, `1E+3`, `1e-3`, `1e`, `1e+`, `1.5e400`, `-1e400`, `1e400`, `0.1e1`, `0x1`, `1_0`,
		`9007199254740991`, `9007199254740992`, `-9007199254740992`, `999999999999999999`, `1000000000000000000`, `99999999999999999999`,
		`1795341599123`, `1795345200001`, `1792000000000`, `-1`, `253402300799`, `253402300800`, `253402300799999`, `253402300800000`,
		`true`, `false`, `null`, `True`, `nul`, `nulll`, `truefalse`, `tru`, `NaN`, `Infinity`, `'a'`, `"`, `""`, `"a`, `"a""b"`, `"\"`, `"\\"`, `"\u0000"`, `"\ud800"`, `"\ud83d\ude00"`,
		`"\ud83dx"`, `"\x"`, `"\u12"`, `"\/"`, "\"\x00\"", "\"\x1f\"", "\"\x7f\"", "\"\xff\"", "\"\xc3\"", "\"\xc3\xa9\"", "\"\xed\xa0\x80\"", "\"\xef\xbf\xbd\"", "\"1234567\xc3\xa9\"", "\"a\tb\"", "\"a\nb\"",
		`"` + strings.Repeat("x", 31) + `"`, `"` + strings.Repeat("é", 40) + `"`, `{}`, `[]`, `{"a":1}`, `{"a":1,"a":2}`, `[1,]`, `{"a":}`, `{,}`, "[\"\xff\"]", `[}`, `{]`, strings.Repeat("[", 1200) + strings.Repeat("]", 1200),
		`"2026-11-22T09:59:59Z"`, `"2026-11-22t09:59:59Z"`, `"2026-11-22 09:59:59 +05:30"`, `"2026-11-22  09:59:59"`, `"2026-11-22T09:59:59,5Z"`, `"2026-11-22T24:00:00Z"`, `"0000-01-01T00:00:00Z"`, `"2026-11-22T09:59:59+19:00"`, `"2026-11-22T10:59:59.999999999-17:59"`,
		``, ` `, `1 2`, `1/**/`, `//`,
	}
}

// names are attributes, derived ones, and members that no schema has.
func memberNames() []string {
	return []string{"api", "at", "path", "template", "duration", "any", "ratio", "real", "hit", "user", "seconds", "nanos", "größe", "slow", "upper", "other", "", "a b", `esc\u0061ped`, "ap\\u0069", "\xff", "x\x01", "=x"}
}

// Whatever is sent, the scanner changes nothing but the time that it takes.
func TestDecode_FastEqualsExactForEveryValueOfEveryAttribute(t *testing.T) {
	t.Parallel()
	p := newPair(everySchema())
	for _, event := range plain() {
		p.check(t, []byte(event), "")
		for i := range len(event) {
			p.check(t, []byte(event[:i]), "")
			p.check(t, []byte(event[:i]+event[i+1:]), "")
			p.check(t, []byte(event[:i]+`"`+event[i:]), "")
		}
	}
	for _, name := range memberNames() {
		for _, value := range strange() {
			event := fmt.Sprintf(`{"at":1795341599123,"user":"u","%s":%s}`, name, value)
			p.check(t, []byte(event), "")
			p.check(t, []byte("["+plain()[0]+","+event+" , "+plain()[1]+"]"), "")
			p.check(t, fmt.Appendf(nil, `{"%s":%s,"any":1}`, name, value), "")
		}
	}
	for _, cut := range []string{"[]", "[,%s]", "[%s,]", "[%s,,%s]", "[%s %s]", "[[%s]]", "[%s][%s]", "%s,%s", "%s%s", " %s \n[ ] %s", "[%s", "%s]", "[%s]x", "x%s", "[%s,1]", "[1,%s]", "[%s}", "\v%s", "%s\v", "[]%s", "\xef\xbb\xbf%s", "%s\x00", "{\x001}", "{\x00\"at\":1}", "{\"at\":1,\x001}", "[%s,\n%s\n,%s]"} {
		p.check(t, []byte(strings.ReplaceAll(cut, "%s", plain()[1])), "")
		p.check(t, []byte(strings.ReplaceAll(cut, "%s", `{"at":1,"at":2}`)), "")
	}
}

// A scanner that has met too many members forgets them, and goes on.
func TestDecode_FastEqualsExactForAnyNumberOfMembers(t *testing.T) {
	t.Parallel()
	p := newPair(everySchema())
	for i := range 10 {
		var b strings.Builder
		b.WriteString(`{"user":"u","at":1795341599123`)
		for j := range 40 * i {
			fmt.Fprintf(&b, `,"m%d":%d`, j*(i%3+1), j)
		}
		p.check(t, []byte(b.String()+`}`), "")
		p.check(t, []byte(b.String()+`,"m0":1}`), "")
	}
	if n := len(p.fast.scanner(p.fastColumns.Schema).members) - 1; n > len(p.fastColumns.Cells)+mostUnknown {
		t.Errorf("the scanner remembers %d members", n)
	}
}

func TestDecode_FastEqualsExact(t *testing.T) {
	t.Parallel()
	schema := everySchema()
	values := append(strange(), plain()...)
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(schema)
		for range rapid.IntRange(1, 4).Draw(t, "messages") {
			var b strings.Builder
			for i := range rapid.IntRange(0, 4).Draw(t, "events") {
				if i > 0 {
					b.WriteString(rapid.SampledFrom([]string{",", ",", ", ", "\n", ""}).Draw(t, "between"))
				}
				if rapid.Bool().Draw(t, "plain") {
					b.WriteString(rapid.SampledFrom(plain()).Draw(t, "event"))
					continue
				}
				b.WriteString(`{"at":1795341599123,"user":"u"`)
				for range rapid.IntRange(0, 5).Draw(t, "members") {
					fmt.Fprintf(&b, `,"%s":%s`, rapid.SampledFrom(memberNames()).Draw(t, "name"), rapid.SampledFrom(values).Draw(t, "value"))
				}
				b.WriteByte('}')
			}
			data := []byte(b.String())
			if rapid.Bool().Draw(t, "array") {
				data = []byte("[" + b.String() + "]")
			}
			for range rapid.IntRange(0, 2).Draw(t, "mutations") {
				if i := rapid.IntRange(0, len(data)).Draw(t, "where"); i < len(data) {
					data[i] = rapid.Byte().Draw(t, "byte")
				} else {
					data = append(data, rapid.Byte().Draw(t, "byte"))
				}
			}
			p.check(t, data, "")
		}
	})
}

func FuzzDecode_FastEqualsExact(f *testing.F) {
	for i, event := range plain() {
		f.Add([]byte(event), "")
		f.Add([]byte("["+event+","+plain()[0]+"]"), "")
		for _, value := range strange() {
			name := memberNames()[i%len(memberNames())]
			f.Add([]byte(strings.Replace(event, "{", fmt.Sprintf(`{"%s":%s,`, name, value), 1)), "")
		}
	}
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Body, m.Header("Content-Encoding")) }); err != nil {
		f.Fatal(err)
	}
	schema := everySchema()
	f.Fuzz(func(t *testing.T, data []byte, encoding string) {
		newPair(schema).check(t, data, encoding)
	})
}

// The scanner must not be right only because it never dares.
func TestScanner_ReadsPlainEventsItself(t *testing.T) {
	t.Parallel()
	s, columns := newScanner(everySchema()), NewColumns(everySchema(), NewDictionary())
	columns.open()
	for range 2 {
		for _, event := range plain() {
			columns.begin()
			if end := s.object([]byte(event), 0, columns); end != len(event) {
				t.Errorf("%s: it gave up", event)
			}
		}
	}
}

func TestDictionary_IsAMap(t *testing.T) {
	t.Parallel()
	d, want := NewDictionary(), map[string]Cell{}
	var texts []string
	for i := range 5000 {
		texts = append(texts, strings.Repeat("x", i%23)+fmt.Sprint(i%1700), strings.Repeat("\x00", i%40), strings.Repeat("y", i))
	}
	bytes := 0
	for _, text := range slices.Concat(texts, texts) {
		id, known := want[text]
		if !known {
			id = Cell(len(want))
			want[text] = id
			bytes += len(text)
		}
		if got := d.Intern(text); got != id || d.Text(got) != text || d.InternBytes([]byte(text)) != id {
			t.Fatalf("%q: got %d, want %d", text, got, id)
		}
	}
	if d.Len() != len(want) || d.Bytes() != bytes {
		t.Errorf("got %d texts of %d bytes, want %d of %d", d.Len(), d.Bytes(), len(want), bytes)
	}
	for text, id := range want { // later texts have not touched earlier ones
		if d.Text(id) != text {
			t.Fatalf("got %q, want %q", d.Text(id), text)
		}
	}
}

func TestDictionary_HashesAStringAsItsText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHashing()
		text := rapid.StringMatching(`[^"\\\x00-\x1f]*`).Draw(t, "text")
		body := []byte(text + `"` + rapid.String().Draw(t, "rest"))
		if end, hash, ok := h.text(body, 0); !ok || end != len(text) || hash != h.of([]byte(text)) {
			t.Fatalf("%q: got %d, %x, %t; want %d, %x", text, end, hash, ok, len(text), h.of([]byte(text)))
		}
	})
}

func TestDictionary_AppliesAFunctionOncePerText(t *testing.T) {
	t.Parallel()
	calls := 0
	upper := &TextFunc{Of: func(text string) string { calls++; return strings.ToUpper(text) }}
	first := &TextFunc{Of: func(text string) string { return text[:1] }}
	d := NewDictionary()
	for range 3 {
		for i := range 100 {
			id := d.Intern(fmt.Sprint("text", i))
			if got, want := d.Text(d.Apply(upper, id))+d.Text(d.Apply(first, id)), fmt.Sprint("TEXT", i, "t"); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	if calls != 100 {
		t.Errorf("%d calls", calls)
	}
}

func TestColumns_AreReadAgainAfterReset(t *testing.T) {
	t.Parallel()
	c := NewColumns(everySchema(), NewDictionary())
	var d Decoder
	body := Body{Data: []byte("[" + strings.Join(plain()[:8], ",") + "]")}
	first := outcome(&d, body, c)
	for i := range 6 {
		c.Reset()
		if c.Len() != 0 {
			t.Fatalf("%d rows after Reset", c.Len())
		}
		if i%2 == 1 {
			c.Dict = NewDictionary()
		}
		if got := outcome(&d, body, c); got != first {
			t.Fatalf("got %s\nwant %s", got, first)
		}
	}
}
