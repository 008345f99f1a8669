package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Table is the report for people.
func (r *Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: NATS, Postgres, %s and what measures them share it\n", r.Machine, plural(r.Workers, "worker"))
	fmt.Fprintf(&b, "%s events a run, %s a message, %.0f bytes each; %s, medians, and the least and the most of them\n",
		thousands(float64(r.Events)), thousands(float64(r.Batch)), r.EventBytes, plural(r.Runs, "run"))
	if r.Machine.Others >= 0.1 {
		fmt.Fprintf(&b, "DISTURBED: other processes had %.0f %% of the cores while workers folded; take the rates as lower bounds\n", 100*r.Machine.Others)
	}
	if r.History > 0 {
		fmt.Fprintf(&b, "%s events were stored before\n", thousands(float64(r.History)))
	}
	b.WriteString("\n")
	r.folding(&b)
	r.ending(&b)
	if a := r.Alerts; a != nil {
		fmt.Fprintf(&b, "\nalerts: the rules and an evaluator add %.1f %% (%.1f to %.1f) to the CPU of an event: %s µs, %s without; %s and %s events/s; %s; %s\n",
			100*a.Added, 100*a.Spread.Least, 100*a.Spread.Most, significant(a.With.sum()), significant(a.Without.sum()), thousands(a.Rates[0]), thousands(a.Rates[1]),
			plural(a.decided(), "global alert"), exactly(a.Exact))
	}
	if q := r.Questions; q != nil {
		fmt.Fprintf(&b, "\nquestions, %d at a time over HTTP: %d asked, %d errors, %s answers/s, p50 %.0f ms, p99 %.0f ms, at most %.0f ms\n",
			q.Concurrent, q.Asked, q.Errors, thousands(q.PerSecond), q.P50, q.P99, q.Most)
		fmt.Fprintf(&b, "they slow folding by %.1f %% (%.1f to %.1f): %s events/s, %s without; others had %.0f %% of the cores; %s\n",
			100*q.Slowed, 100*q.Spread.Least, 100*q.Spread.Most, thousands(q.Rates[0]), thousands(q.Rates[1]), 100*q.Others, exactly(q.Exact))
		if q.CPU[0] != nil && q.CPU[1] != nil {
			fmt.Fprintf(&b, "CPU µs/event, with and without: worker and API %.1f and %.1f, NATS %.1f and %.1f, Postgres %.1f and %.1f\n",
				q.CPU[0].Worker, q.CPU[1].Worker, q.CPU[0].NATS, q.CPU[1].NATS, q.CPU[0].Postgres, q.CPU[1].Postgres)
		}
		for _, text := range q.Refusals {
			fmt.Fprintf(&b, "REFUSED: %s\n", text)
		}
	}
	if l := r.Live; l != nil {
		fmt.Fprintf(&b, "\nlive, %s events/s of the %s asked for: from publish to queryable p50 %.0f ms, p99 %.0f ms (%.0f to %.0f), at most %.0f ms; %d probes; %s\n",
			thousands(l.EventsPerSecond), thousands(l.Asked), l.P50, l.P99, l.P99Spread.Least, l.P99Spread.Most, l.Most, l.Probes, exactly(l.Exact))
	}
	if m := r.PeakRSS; m != nil {
		fmt.Fprintf(&b, "\npeak memory, MB: worker %.0f, NATS %.0f, Postgres %.0f (all its processes, shared memory once)\n", m.Worker, m.NATS, m.Postgres)
	} else {
		b.WriteString("\nCPU and memory are not measured: this system has no /proc\n")
	}
	for _, p := range r.Problems() {
		fmt.Fprintf(&b, "WRONG: %s\n", p)
	}
	return b.String()
}

// folding is what was measured while events were folded.
func (r *Report) folding(b *strings.Builder) {
	if r.Bare == nil && r.FullPack == nil && r.One == nil {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(name string, bare func(*BareResult) string, fold func(*FoldResult) string) {
		cells := []string{"", "", ""}
		if r.Bare != nil {
			cells[0] = bare(r.Bare)
		}
		for i, f := range []*FoldResult{r.FullPack, r.One} {
			if f != nil {
				cells[i+1] = fold(f)
			}
		}
		if strings.Join(cells, "") != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\t\n", name, strings.Join(cells, "\t"))
		}
	}
	none := func(*BareResult) string { return "" }
	row("", func(*BareResult) string { return "bare consumer" }, func(f *FoldResult) string {
		return map[bool]string{true: "full pack", false: "one aggregation"}[f == r.FullPack]
	})
	row("events/s", func(x *BareResult) string { return thousands(x.EventsPerSecond) }, func(f *FoldResult) string { return thousands(f.EventsPerSecond) })
	if r.Runs > 1 {
		row("least to most", func(x *BareResult) string { return between(x.Spread) }, func(f *FoldResult) string { return between(f.Spread) })
	}
	row("of the bare consumer", none, func(f *FoldResult) string {
		if f.Ratio == nil {
			return ""
		}
		return fmt.Sprintf("%.2f (%.2f to %.2f)", *f.Ratio, f.RatioSpread.Least, f.RatioSpread.Most)
	})
	for _, kind := range []struct {
		name string
		of   func(CPU) float64
	}{
		{"CPU µs/event: worker or consumer", func(c CPU) float64 { return c.Worker }},
		{"NATS", func(c CPU) float64 { return c.NATS }},
		{"Postgres", func(c CPU) float64 { return c.Postgres }},
		{"together", CPU.sum},
	} {
		row(kind.name, func(x *BareResult) string { return micros(x.CPU, kind.of) }, func(f *FoldResult) string { return micros(f.CPU, kind.of) })
	}
	row("WAL bytes/event", none, func(f *FoldResult) string { return significant(f.WAL) })
	row("rows/event", none, func(f *FoldResult) string { return significant(f.Rows) })
	row("counts", none, func(f *FoldResult) string { return exactly(f.Exact) })
	_ = w.Flush() // to a string
}

// ending is what the coarser levels took at the end.
func (r *Report) ending(b *strings.Builder) {
	for _, f := range []struct {
		name string
		*FoldResult
	}{{"full pack", r.FullPack}, {"one aggregation", r.One}} {
		if f.FoldResult == nil {
			continue
		}
		if e := f.AtEnd; e == nil {
			fmt.Fprintf(b, "\n%s: the coarser levels were not completed in the time that workers have when they end; answers read what these lack from the finer ones", f.name)
		} else {
			fmt.Fprintf(b, "\n%s: at the end the coarser levels were completed in %.1f s, with %s bytes of WAL and %s rows per event", f.name, e.Seconds, significant(e.WAL), significant(e.Rows))
			if e.CPU != nil {
				fmt.Fprintf(b, ", %s µs of CPU", significant(e.CPU.sum()))
			}
		}
		if f.Ratio != nil && f.FoldResult == r.One {
			fmt.Fprintf(b, "; the bare consumer had %s events/s of its stream", thousands(*f.Bare))
		}
	}
	b.WriteString("\n")
}

func (c CPU) sum() float64 { return c.Worker + c.NATS + c.Postgres }

func micros(c *CPU, of func(CPU) float64) string {
	if c == nil {
		return "not measured"
	}
	return fmt.Sprintf("%.2f", of(*c))
}

func between(s Spread) string { return thousands(s.Least) + " to " + thousands(s.Most) }

func exactly(exact bool) string {
	if exact {
		return "exact"
	}
	return "WRONG"
}

// thousands writes a whole number, rounded to three digits at least, in groups of three.
func thousands(n float64) string {
	digits := strconv.FormatInt(int64(math.Round(n)), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// significant writes two digits that say something.
func significant(x float64) string {
	switch {
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 1:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// String is what is said of a machine.
func (m Machine) String() string {
	text := plural(m.Cores, "core")
	if m.CPU != "" {
		text += " of " + m.CPU
	}
	if m.MemoryMB > 0 {
		text += fmt.Sprintf(", %d GB", (m.MemoryMB+512)/1024)
	}
	return text + ", " + m.OS + "/" + m.Arch
}
