package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// textWriter writes texts and times for COPY.
//
// A packed row has many groups and few different texts, and what most rows have
// of a First or Last hangs on a group key: the name of an API on its context. So
// a column of texts is an array that has each different text once, and before
// them, as its first element, says which group has which:
//
//	""          each group its own, in order
//	"1…" – "3…" by their numbers, from 0: for each group so many digits, the
//	            greatest first, of 6 bits each (see digits)
//	"A" – "Z"   as the first, second, … text key: the column's n-th text is that
//	            of all groups with that key's n-th text
//
// weir_view.texts makes it one text per group again.
type textWriter struct {
	dict  *event.Dictionary
	seen  []seen // by cell + 1, for the cell of what is not known is -1
	round uint32
	keys  []numbered // of the part's text keys, in their order
	own   numbered
	known []event.Cell

	day     int64 // of dayText, since 1970; valid if that is not empty
	dayText []byte
}

// seen is the number of a text in the column that was the round-th to be
// numbered.
type seen struct {
	round  uint32
	number int32
}

// numbered is a column as numbers of its different texts.
type numbered struct {
	of    []int32 // by group
	first []int32 // by number, the first group that has it
}

// fewGroups is up to how many numbers do not pay.
const fewGroups = 4

// plain reports whether each group is given its own text.
func (c *numbered) plain() bool {
	return len(c.of) <= fewGroups || len(c.first) == len(c.of)
}

// decides reports whether groups with the same text of the column have the same
// cell.
func (c *numbered) decides(cells []event.Cell) bool {
	if len(cells) != len(c.of) || c.plain() {
		return false
	}
	for n, number := range c.of {
		if cells[n] != cells[c.first[number]] {
			return false
		}
	}
	return true
}

// beginPart forgets the keys of the last part.
func (w *textWriter) beginPart() { w.keys = w.keys[:0] }

// number gives the column's different texts numbers, in order.
func (w *textWriter) number(c *numbered, cells []event.Cell) {
	if w.round++; w.round == 0 { // never, in practice
		clear(w.seen)
		w.round = 1
	}
	if n := w.dict.Len() + 1; len(w.seen) < n {
		w.seen = append(w.seen, make([]seen, n-len(w.seen))...)
	}
	c.of, c.first = slices.Grow(c.of[:0], len(cells)), c.first[:0]
	for n, cell := range cells {
		s := &w.seen[cell+1]
		if s.round != w.round {
			*s = seen{round: w.round, number: int32(len(c.first))} // a row has far fewer than 2^31 groups
			c.first = append(c.first, int32(n))                    // the same
		}
		c.of = append(c.of, s.number)
	}
}

// notKnown is the cell of a text that is not known.
const notKnown = event.Cell(-1)

// cells returns the column's cells, notKnown where they are not.
func (w *textWriter) cells(p *aggregation.Part, v *values) []event.Cell {
	if p.Missing == nil && v.times == nil {
		return *v.cells
	}
	w.known = append(w.known[:0], *v.cells...)
	for n := range w.known {
		if v.unknown(p, n) {
			w.known[n] = notKnown
		}
	}
	return w.known
}

// appendTexts appends a column of texts, packed.
func (w *textWriter) appendTexts(out []byte, p *aggregation.Part, v *values) []byte {
	cells, c := w.cells(p, v), &w.own
	out = append(out, '{', '"')
	if v.key {
		w.keys = slices.Grow(w.keys, 1)[:len(w.keys)+1] // keeps what memory the last part's had
		c = &w.keys[len(w.keys)-1]
	} else if k := slices.IndexFunc(w.keys[:min(len(w.keys), 26)], func(key numbered) bool { return key.decides(cells) }); k >= 0 {
		out = append(out, byte('A'+k), '"')
		return w.appendDifferent(out, cells, w.keys[k].first)
	}
	w.number(c, cells)
	if c.plain() {
		out = append(out, '"')
		for _, cell := range cells {
			out = w.appendText(out, cell)
		}
		return append(out, '}')
	}
	out = append(appendNumbers(out, c), '"')
	return w.appendDifferent(out, cells, c.first)
}

// appendDifferent appends the texts of some groups.
func (w *textWriter) appendDifferent(out []byte, cells []event.Cell, groups []int32) []byte {
	for _, n := range groups {
		out = w.appendText(out, cells[n])
	}
	return append(out, '}')
}

func (w *textWriter) appendText(out []byte, cell event.Cell) []byte {
	out = append(out, ',')
	if cell == notKnown {
		return append(out, "NULL"...)
	}
	return appendQuoted(out, w.dict.Text(cell))
}

// digits are characters whose lower 6 bits are the digit, and which neither
// arrays nor COPY escape: of 28, that excludes the backslash.
const digits = "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\x1c]^_`abcdefghijklmnopqrstuvwxyz{|}~?"

func appendNumbers(out []byte, c *numbered) []byte {
	out = slices.Grow(out, 3*len(c.of)+1)
	switch n := len(c.first); {
	case n <= 1<<6:
		out = append(out, '1')
		for _, v := range c.of {
			out = append(out, digits[v&63])
		}
	case n <= 1<<12:
		out = append(out, '2')
		for _, v := range c.of {
			out = append(out, digits[v>>6&63], digits[v&63])
		}
	default: // packedGroups is far below 2^18
		out = append(out, '3')
		for _, v := range c.of {
			out = append(out, digits[v>>12&63], digits[v>>6&63], digits[v&63])
		}
	}
	return out
}

// appendMoments appends a column of numbers, packed: those of the events of one
// bucket and batch are near each other, so that as a rule it is how far each is
// from the least, in digits as above. "" stands before them where it is not.
func (w *textWriter) appendMoments(out []byte, p *aggregation.Part, v *values) []byte {
	cells := *v.cells
	least, step, width := closeBy(cells)
	for n := 0; n < len(cells) && width > 0; n++ {
		if v.unknown(p, n) {
			width = 0
		}
	}
	if width == 0 {
		out = append(out, `{""`...)
		for n, cell := range cells {
			out = append(out, ',')
			if v.unknown(p, n) {
				out = append(out, "NULL"...)
			} else {
				out = strconv.AppendInt(out, int64(cell), 10)
			}
		}
		return append(out, '}')
	}
	out = append(slices.Grow(out, width*len(cells)+64), '{', '"', byte('0'+width))
	for _, cell := range cells {
		for shift := 6 * (width - 1); shift >= 0; shift -= 6 {
			out = append(out, digits[(cell-least)/step>>shift&63])
		}
	}
	out = append(out, '"', ',')
	out = append(strconv.AppendInt(out, int64(least), 10), ',')
	return append(strconv.AppendInt(out, int64(step), 10), '}')
}

// closeBy returns in how many digits the numbers can be written as multiples of
// a step above the least; 0 if they are too few, or too far from each other. Times
// are mostly whole milliseconds.
func closeBy(cells []event.Cell) (least, step event.Cell, width int) {
	if len(cells) <= fewGroups {
		return 0, 1, 0
	}
	least, most, step := cells[0], cells[0], event.Cell(1000)
	for _, cell := range cells {
		least, most = min(least, cell), max(most, cell)
		if (cell-cells[0])%1000 != 0 {
			step = 1
		}
	}
	const digitBits, mostDigits = 6, 4
	if uint64(most)-uint64(least) >= 1<<40 { //nolint:gosec // the difference of any two
		return least, step, 0
	}
	for n := (most - least) / step; width == 0 || n > 0; n >>= digitBits {
		width++
	}
	if width > mostDigits {
		width = 0
	}
	return least, step, width
}

// appendQuoted appends an array element: quoted for the array, and escaped
// once more for COPY.
func appendQuoted(out []byte, text string) []byte {
	out = append(out, '"')
	if !strings.ContainsAny(text, "\"\\\n\r\t") {
		out = append(out, text...)
		return append(out, '"')
	}
	for i := range len(text) {
		switch c := text[i]; c {
		case '"':
			out = append(out, `\\"`...)
		case '\\':
			out = append(out, `\\\\`...)
		default:
			out = appendEscapedByte(out, c)
		}
	}
	return append(out, '"')
}

// appendEscaped appends a text field of COPY.
func appendEscaped(out []byte, text string) []byte {
	if !strings.ContainsAny(text, "\\\n\r\t") {
		return append(out, text...)
	}
	for i := range len(text) {
		out = appendEscapedByte(out, text[i])
	}
	return out
}

func appendEscapedByte(out []byte, c byte) []byte {
	switch c {
	case '\\':
		return append(out, `\\`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	return append(out, c)
}

// appendTime appends a time as Postgres reads it. Times of a day follow each
// other, so that the day's text is kept.
func (w *textWriter) appendTime(out []byte, t int64) []byte {
	const second, day = 1_000_000, 86_400 * 1_000_000
	days, rest := t/day, t%day
	if rest < 0 {
		days, rest = days-1, rest+day
	}
	if len(w.dayText) == 0 || days != w.day {
		w.day, w.dayText = days, time.UnixMicro(days*day).UTC().AppendFormat(w.dayText[:0], "2006-01-02 ")
	}
	out = append(out, w.dayText...)
	s := rest / second
	out = append(appendTwo(out, s/3600), ':')
	out = append(appendTwo(out, s/60%60), ':')
	out = appendTwo(out, s%60)
	if micros := rest % second; micros != 0 {
		out = append(out, '.')
		for unit := int64(100_000); unit > 0; unit /= 10 {
			out = append(out, byte('0'+micros/unit%10))
		}
	}
	return append(out, 'Z')
}

// appendTwo appends a number below 100 as two digits.
func appendTwo(out []byte, n int64) []byte { return append(out, byte('0'+n/10), byte('0'+n%10)) }
