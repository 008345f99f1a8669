package audit

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"weir/pkg/audit"
	"weir/pkg/query"
)

// show prints the proof link by link, then what does not add up, and as the
// last line the result.
func show(w io.Writer, r *audit.Report) error {
	var b bytes.Buffer
	if err := showSources(&b, r.Sources); err != nil {
		return err
	}
	s := r.Stream
	b.WriteString("\nStream to ledger\n")
	if s.Verified < s.Began {
		fmt.Fprintf(&b, "  no message is verified yet; the stream holds %s to %s\n", count(s.First), count(s.Last))
	} else {
		fmt.Fprintf(&b, "  messages %s to %s are verified; the stream holds %s to %s\n", count(s.Began), count(s.Verified), count(s.First), count(s.Last))
	}
	fmt.Fprintf(&b, "  %s in flight, %s not folded, %s repaired, %s gone before they were verified\n",
		count(s.InFlight), audit.Grouped(s.Holes), audit.Grouped(s.Repaired), audit.Grouped(s.Unverified))
	t := r.Balance
	fmt.Fprintf(&b, "\nLedger\n  %s identities were put into it, %s are in it%s\n", audit.Grouped(t.Claims), audit.Grouped(t.Ledger), equal(t.Claims == t.Ledger))
	fmt.Fprintf(&b, "  %s dead letters were written, %s are there%s\n", audit.Grouped(t.DeadLetters), audit.Grouped(t.Letters), equal(t.DeadLetters == t.Letters))
	if err := showLevels(&b, r.Levels); err != nil {
		return err
	}
	if r.Certificates.Count > 0 {
		fmt.Fprintf(&b, "\nCertificates\n  %s, the newest of %s: %s\n", audit.Grouped(r.Certificates.Count), r.Certificates.Hour, r.Certificates.Head)
	}
	if len(r.Findings) > 0 {
		b.WriteString("\nFindings\n")
		for i := range r.Findings {
			f := &r.Findings[i]
			state := ""
			switch {
			case f.Accepted:
				state = " (accepted)"
			case !f.Residue():
				state = " (to be known; `weir audit --accept` puts it aside)"
			}
			fmt.Fprintf(&b, "  %d  %s%s\n", f.ID, f.Detail, state)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Sentence())
	_, err := w.Write(b.Bytes())
	return err
}

func showSources(b *bytes.Buffer, sources []audit.Source) error {
	b.WriteString("Source to stream\n")
	if len(sources) == 0 {
		b.WriteString("  no publisher has said yet what it was told is stored\n")
		return nil
	}
	lines := [][]string{{"source", "epoch", "stored", "missing", "given up", "last word", ""}}
	for i := range sources {
		s := &sources[i]
		epoch := s.Epoch
		if len(epoch) > 12 {
			epoch = epoch[:11] + "…"
		}
		state := "ok"
		switch {
		case s.Lost > 0:
			state = s.Ranges
		case s.Waiting:
			state = "not verified yet"
		}
		if s.Closed {
			state += ", ended"
		}
		lines = append(lines, []string{s.Source, epoch, count(s.Acked), count(s.Lost), audit.Grouped(s.Dropped), s.ToldAt, state})
	}
	return indented(b, lines, []bool{false, false, true, true, true, false, false})
}

func showLevels(b *bytes.Buffer, levels []audit.Level) error {
	b.WriteString("\nLedger to aggregates\n")
	if len(levels) == 0 {
		b.WriteString("  there is no aggregation\n")
		return nil
	}
	lines := [][]string{{"aggregation", "per", "events", "checksum", "purged", ""}}
	last := ""
	for i := 0; i < len(levels); {
		l := &levels[i]
		next := i + 1 // levels that say the same share a line
		for next < len(levels) && l.Wrong == 0 && same(l, &levels[next]) {
			next++
		}
		name, per, state := l.Aggregation, l.Level, "ok"
		if name == last {
			name = ""
		}
		last = l.Aggregation
		if next > i+1 {
			per += " … " + levels[next-1].Level
		}
		if l.Wrong > 0 {
			state = "WRONG in " + audit.Plural(int64(l.Wrong), "place", "places")
		}
		lines = append(lines, []string{
			name, per, audit.Grouped(l.Checked.Events), fmt.Sprintf("%08x", l.Checked.Checksum), audit.Grouped(l.Purged.Events), state,
		})
		i = next
	}
	if err := indented(b, lines, []bool{false, false, true, false, true, false}); err != nil {
		return err
	}
	b.WriteString("  Each line is of the moment when it was added up, which is after the ledger was.\n")
	return nil
}

func same(a, b *audit.Level) bool {
	return a.Aggregation == b.Aggregation && a.Checked == b.Checked && a.Purged == b.Purged && b.Wrong == 0
}

func indented(b *bytes.Buffer, lines [][]string, right []bool) error {
	var table bytes.Buffer
	if err := query.WriteAligned(&table, lines, right); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		b.WriteString("  " + strings.TrimRight(line, " \n") + "\n")
	}
	return nil
}

func equal(ok bool) string {
	if ok {
		return ": ok"
	}
	return ": WRONG"
}

func count(n uint64) string { return audit.Grouped(int64(n)) } //nolint:gosec // sequences and numbers end at 2^62
