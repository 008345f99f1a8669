package aggregation

import (
	"cmp"
	"slices"
	"time"

	"weir/pkg/event"
)

// ControlPeriod is the span of event time that control totals are kept for. It
// divides the hours of every zone (since 1972), and so every bucket of an hour
// and more.
const ControlPeriod = 15 * time.Minute

// Control is a control total: how many events of a batch belong to an
// aggregation in one period, and the sum of their checksums.
type Control struct {
	Definition *Definition
	Period     int64 // its start, microseconds since 1970 UTC: a multiple of ControlPeriod
	Events     int64
	Checksum   uint32 // modulo 2^32
}

// Controls returns the control totals of a batch, by aggregation in the order
// of definition and then by period. What Fold makes of the batch must add up to
// them, whatever the groups, caps and levels. They are counted from the events
// by a loop that shares nothing with it, so that an error of the one is not one
// of the other. Rows marked Dropped are passed over.
func Controls(defs []*Definition, batch []*event.Columns) []Control {
	counted := map[controlInput][]Control{} // aggregations of one input have the same
	var all []Control
	for _, def := range defs {
		first := len(all)
		for _, input := range def.Inputs {
			for _, columns := range batch {
				if columns.Schema.Name != input.Stream {
					continue
				}
				of := controlInput{columns, input.Where}
				totals, ok := counted[of]
				if !ok {
					totals = of.count()
					counted[of] = totals
				}
				all = append(all, totals...)
			}
		}
		all = all[:first+len(sumControls(def, all[first:]))]
	}
	return all
}

// controlInput is what an aggregation takes of a batch.
type controlInput struct {
	columns *event.Columns
	where   int // Input.Where
}

// count returns the totals by period, in no order. Events mostly follow others
// of their period, so that finding it costs a comparison.
func (in controlInput) count() []Control {
	const width = int64(ControlPeriod / time.Microsecond)
	c := in.columns
	var totals []Control
	place := map[int64]int{}
	at, start := -1, int64(0)
	for row, t := range c.Times {
		if c.Dropped[row] || in.where >= 0 && c.Cells[in.where][row] == 0 {
			continue
		}
		if at < 0 || t < start || t >= start+width {
			start = t - (t%width+width)%width // down, also before 1970
			known := false
			if at, known = place[start]; !known {
				at = len(totals)
				place[start] = at
				totals = append(totals, Control{Period: start})
			}
		}
		totals[at].Events++
		totals[at].Checksum += c.Checksums[row]
	}
	return totals
}

// sumControls puts the totals in order and adds up those of one period, in
// place.
func sumControls(def *Definition, totals []Control) []Control {
	slices.SortFunc(totals, func(a, b Control) int { return cmp.Compare(a.Period, b.Period) })
	sums := totals[:0]
	for _, t := range totals {
		if n := len(sums); n > 0 && sums[n-1].Period == t.Period {
			sums[n-1].Events += t.Events
			sums[n-1].Checksum += t.Checksum
			continue
		}
		t.Definition = def
		sums = append(sums, t)
	}
	return sums
}
