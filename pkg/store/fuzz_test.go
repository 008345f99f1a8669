package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"weir/pkg/badinput"
	"weir/pkg/event"
)

// readCopy undoes what COPY does to a text field, as the manual of Postgres has it.
func readCopy(field string) string {
	var out strings.Builder
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c == '\\' {
			i++
			switch c = field[i]; c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case '\\':
			default:
				return fmt.Sprintf("an escape of COPY: \\%c", c)
			}
		}
		out.WriteByte(c)
	}
	return out.String()
}

// readArray reads an array of quoted elements, as the manual of Postgres has it.
func readArray(literal string) (elements []string) {
	var element strings.Builder
	quoted := false
	for i := 1; i < len(literal)-1; i++ {
		switch c := literal[i]; {
		case c == '\\' && quoted:
			i++
			element.WriteByte(literal[i])
		case c == '"' && quoted:
			elements = append(elements, element.String())
			element.Reset()
			quoted = false
		case c == '"':
			quoted = true
		case quoted:
			element.WriteByte(c)
		}
	}
	return elements
}

// Whatever a text holds, it is one field of COPY, or one element of an array
// in one, and comes back as it was.
func FuzzCopyText(f *testing.F) {
	f.Add("a\tb", `\N`)
	f.Add("\\.\n", `"},{"`)
	f.Add("NULL", "\r\n\\\\\"")
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(string(m.Body), m.Subject) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		field := string(appendEscaped(nil, a))
		if strings.ContainsAny(field, "\t\n\r") || field == `\N` || field == `\.` {
			t.Fatalf("%q is %q, which is not one field", a, field)
		}
		if got := readCopy(field); got != a {
			t.Fatalf("%q is %q, which is read as %q", a, field, got)
		}
		array := string(append(appendQuoted(append(appendQuoted([]byte("{"), a), ','), b), '}'))
		if strings.ContainsAny(array, "\t\n\r") {
			t.Fatalf("%q and %q are %q, which is not one field", a, b, array)
		}
		if got := readArray(readCopy(array)); len(got) != 2 || got[0] != a || got[1] != b {
			t.Fatalf("%q and %q are %q, which is read as %q", a, b, array, got)
		}
	})
}

// Postgres is asked for the same: what is stored is what was given.
func TestCopyText_IsReadByPostgresAsByTheOracle(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	texts := []string{"a\tb", `\N`, "\\.\n", `"},{"`, "NULL", "\r\n\\\\\"", "", " ", "{}", "\x1b\x7f\x01"}
	err := badinput.Seeds(func(m badinput.Message) {
		if text := string(m.Body); utf8.ValidString(text) && !strings.Contains(text, "\x00") {
			texts = append(texts, text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		var got string
		array := readCopy(string(append(appendQuoted([]byte("{"), text), '}')))
		if err := db.sql.QueryRowContext(t.Context(), `SELECT ($1::text[])[1]`, array).Scan(&got); err != nil || got != text {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
}

// Claims, pages and runs of full pages hold a set of numbers: against a map, over
// any order of claims and compactions. Each byte pair of the program is a step.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 1, 5, 1, 3})
	f.Add([]byte{2, 0, 3, 0, 0, 9, 2, 0, 2, 1, 3, 0, 1, 255, 2, 2, 3, 0, 2, 1})
	f.Add([]byte{1, 255, 1, 254, 2, 0, 3, 0, 2, 1, 3, 0, 1, 255, 0, 0})
	db := migrated(f)
	var programs atomic.Int64
	f.Fuzz(func(t *testing.T, program []byte) {
		epoch := fmt.Sprintf("e%d", programs.Add(1))
		folded := map[uint64]bool{}
		for i := 0; i+1 < min(len(program), 16); i += 2 {
			if program[i]%4 == 3 {
				if _, err := db.CompactLedger(t.Context()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			checkClaim(t, db, epoch, folded, numbersOf(program[i], uint64(program[i+1])))
		}
		checkClaim(t, db, epoch, folded, series(1, 3*pageSize)) // all of it, in the end
	})
}

// numbersOf is a few numbers about the boundaries of pages, or a whole page.
func numbersOf(step byte, at uint64) []uint64 {
	switch step % 4 {
	case 0:
		return []uint64{at%3*pageSize + 1 + at/3}
	case 1:
		return series(pageSize-at%64, pageSize+1+at/8)
	}
	return series(at%3*pageSize+1, (at%3+1)*pageSize)
}

// checkClaim claims numbers as a worker does, and compares what is refused with
// what is folded.
func checkClaim(t *testing.T, db *DB, epoch string, folded map[uint64]bool, ns []uint64) {
	t.Helper()
	some := false
	for _, n := range ns {
		some = some || folded[n]
	}
	claims := numbers(epoch, ns...)
	err := claim(t.Context(), db, claims)
	if some != errors.Is(err, ErrClaimed) || !some && err != nil {
		t.Fatalf("claim of %d to %d: %v, want some of them refused: %v", ns[0], ns[len(ns)-1], err, some)
	}
	if some {
		if err := db.Refuse(t.Context(), claims); err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			if claims.Refused("gw", epoch, n) != folded[n] {
				t.Fatalf("%d is refused: %v, folded: %v", n, !folded[n], folded[n])
			}
		}
		if !claims.Empty() {
			if err := claim(t.Context(), db, claims); err != nil {
				t.Fatalf("claim of what is left: %v", err)
			}
		}
	}
	for _, n := range ns {
		folded[n] = true
	}
}

// rawRow is a packed row as it comes from Postgres.
func rawRow(columns int, text func(i int) string) (row []sql.RawBytes) {
	for i := range columns {
		row = append(row, sql.RawBytes(text(i)))
	}
	return row
}

// writeArray writes an array as the manual of Postgres has it; nil is NULL.
func writeArray(elements [][]byte) []byte {
	out := []byte{'{'}
	for i, element := range elements {
		if i > 0 {
			out = append(out, ',')
		}
		if element == nil {
			out = append(out, "NULL"...)
			continue
		}
		out = append(out, '"')
		for _, c := range element {
			if c == '"' || c == '\\' {
				out = append(out, '\\')
			}
			out = append(out, c)
		}
		out = append(out, '"')
	}
	return append(out, '}')
}

// elementsOf reads an array to its end.
func elementsOf(text []byte) (elements [][]byte, err error) {
	var a arrayReader
	if err := a.open(text); err != nil {
		return nil, err
	}
	for a.more {
		element, err := a.next()
		if err != nil {
			return nil, err
		}
		if element != nil {
			element = append([]byte{}, element...)
		}
		elements = append(elements, element)
	}
	return elements, nil
}

// An array of any texts is read as what it is made of. What is no array, or does
// not fit into a row, is refused and does no harm; a row that is accepted has a
// value per group in every column.
func FuzzPackedRow(f *testing.F) {
	for _, seed := range []string{
		`{"1@A@A@",a,"b ""}`, `{"",NULL,"a\\b\"c"}`, `{A,x,"y,z"}`, `{"2@@@A@@@A@@","",{}}`, `{1,-2,NULL,9223372036854775807}`, `{"3@@@@@@@@@@@@@@@",1790000000000000,1000}`,
		`{"\\x0a0b","\\x"}`, `{t,f}`, `{"2026-10-01 12:00:00.5+00"}`, `{NaN,-Infinity,1e-07}`, `[0:1]={1,2}`, `{"a`, `{a\`, `{,}`,
	} {
		f.Add([]byte(seed), []byte(`{"1@@@@@",a}`), "\\\"{},")
	}
	def := everyColumn()
	f.Fuzz(func(t *testing.T, keys, others []byte, text string) {
		want := [][]byte{[]byte(text), nil, {}, others, []byte("NULL")}
		if got, err := elementsOf(writeArray(want)); err != nil || !slices.EqualFunc(got, want, sameElement) {
			t.Fatalf("%q is read as %q, %v", want, got, err)
		}
		if elements, err := elementsOf(keys); err == nil {
			if got, err := elementsOf(writeArray(elements)); err != nil || !slices.EqualFunc(got, elements, sameElement) {
				t.Fatalf("%q is %q, and written again %q, %v", keys, elements, got, err)
			}
		}
		r := groupReader{def: def, level: def.Finest(), columns: columnsOf(def)}
		r.begin()
		for _, events := range []string{`{1,2,3,4,5}`, string(others)} {
			r.part = emptyPart(def, def.Finest())
			err := r.unpack(rawRow(len(r.columns), func(i int) string {
				switch c := r.columns[i]; {
				case c.name == colEvents:
					return events
				case c.whole():
					return "-7"
				case c.kind == event.String && i%2 == 0:
					return string(keys)
				}
				return string(others)
			}))
			for _, v := range valuesOf(nil, &r.part, r.columns) {
				if err == nil && v.len() != r.part.Len() {
					t.Fatalf("column %s has %d values for %d groups", v.name, v.len(), r.part.Len())
				}
			}
		}
	})
}

func sameElement(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
