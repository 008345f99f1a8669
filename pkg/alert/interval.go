package alert

import (
	"encoding/binary"
	"slices"
	"sort"
)

// mostIntervals is of how many of its last events a key's intervals are known.
const mostIntervals = 1024

// interval notices events that come unusually soon after the one of the same key before, or unusually late, as
// in: a client refreshes its token.
//
// The time between two events is compared with the percentiles Lower and Upper of those that
// ended within Window before; not one of them, but the value between the two that are nearest by rank, as
// their distance tells. A percentile of 0 is no bound. Nothing is told before AtLeast intervals are known.
// Of a key with very many events the last 1024 count; after longer than Window without any, a key begins anew.
//
// An event that comes late, after one behind it was judged, divides the interval that it falls
// into, for those judged later. It is not judged itself.
type interval struct {
	times []int64 // of events, in order; the first is where the first interval begins
	spans []int64 // the intervals between them, by length
}

func newInterval() judge { return &interval{} }

func (v *interval) follow(t *telling, happened []moment, _ int64) {
	for i := range happened {
		at := happened[i].at
		if n := len(v.times); n > 0 && at < v.times[n-1] {
			t.late++
			v.divide(at)
			continue
		}
		if v.spent(t.rule, at) {
			v.times, v.spans = nil, nil
		}
		v.forget(at - t.rule.Window.Microseconds())
		if n := len(v.times); n > 0 {
			v.judge(t, at, at-v.times[n-1])
			v.learn(at - v.times[n-1])
		}
		v.times = append(v.times, at)
	}
}

func (v *interval) judge(t *telling, at, span int64) {
	if len(v.spans) == 0 || int64(len(v.spans)) < t.rule.AtLeast {
		return
	}
	low, high := percentile(v.spans, t.rule.Lower), percentile(v.spans, t.rule.Upper)
	o := opened{fired: at, value: float64(span) / 1e6}
	switch {
	case t.rule.Lower > 0 && float64(span) < low:
		o.threshold = low / 1e6
	case t.rule.Upper > 0 && float64(span) > high:
		o.threshold = high / 1e6
	default:
		return
	}
	o.shown = map[string]string{"usual": usual(t.rule, low/1e6, high/1e6)}
	t.happened(o)
}

// usual says between which seconds intervals are.
func usual(r *Rule, low, high float64) string {
	switch {
	case r.Lower == 0:
		return "up to " + figure(high) + " s"
	case r.Upper == 0:
		return "from " + figure(low) + " s on"
	}
	return figure(low) + " to " + figure(high) + " s"
}

// percentile is the value that so many of a hundred are not above, between the nearest two.
func percentile(sorted []int64, p float64) float64 {
	at := p / 100 * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return float64(sorted[len(sorted)-1])
	}
	low, high := float64(sorted[i]), float64(sorted[i+1])
	return low + (high-low)*(at-float64(i))
}

// learn adds an interval.
func (v *interval) learn(span int64) {
	at, _ := slices.BinarySearch(v.spans, span)
	v.spans = slices.Insert(v.spans, at, span)
}

// unlearn takes one away.
func (v *interval) unlearn(span int64) {
	if at, found := slices.BinarySearch(v.spans, span); found {
		v.spans = slices.Delete(v.spans, at, at+1)
	}
}

// forget forgets the intervals that have ended before a time, or are too many.
func (v *interval) forget(before int64) {
	drop := sort.Search(max(0, len(v.times)-1), func(i int) bool { return v.times[i+1] >= before })
	drop = max(drop, len(v.times)-mostIntervals)
	for i := range drop {
		v.unlearn(v.times[i+1] - v.times[i])
	}
	v.times = slices.Delete(v.times, 0, max(0, drop))
}

// divide puts an event where it belongs.
func (v *interval) divide(at int64) {
	i, _ := slices.BinarySearch(v.times, at)
	if i == 0 {
		return // what came before it may be forgotten
	}
	v.unlearn(v.times[i] - v.times[i-1])
	v.learn(at - v.times[i-1])
	v.learn(v.times[i] - at)
	v.times = slices.Insert(v.times, i, at)
}

func (v *interval) wake(*Rule) int64 { return never }

func (v *interval) spent(r *Rule, through int64) bool {
	return len(v.times) == 0 || v.times[len(v.times)-1]+r.Window.Microseconds() < through
}

func (v *interval) append(_ *Rule, to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(len(v.times)))
	before := int64(0)
	for _, at := range v.times {
		to = binary.AppendVarint(to, at-before)
		before = at
	}
	return to
}

func (v *interval) read(_ *Rule, from *reader) {
	at := int64(0)
	for i := range from.count() {
		span := from.varint()
		if at += span; i > 0 {
			v.spans = append(v.spans, span)
		}
		v.times = append(v.times, at)
	}
	slices.Sort(v.spans)
	if !slices.IsSorted(v.times) {
		from.take(-1)
	}
}
