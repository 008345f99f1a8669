package store

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"weir/pkg/badinput"
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
