package alert

import (
	"encoding/binary"
	"slices"
)

// underuse notices that a key's days have had unusually few events, as in: an application uses far
// less of what it has subscribed to than it did.
//
// Days are those of UTC, of a length of Step, counted from the first on which the key was
// heard of; those without events count as such. When one ends, the last AtLeast days, which are
// those that are judged, are compared with the days before them within Window, which are those that are learned
// from, and of which there must be AtLeast too: the condition holds when each of the days that are judged has had
// fewer events than the percentile Lower of those. It ends with a day that reaches
// what it was when the alert fired, so that a lack that lasts does not become what is usual; or when
// nothing has been heard of the key for as long as Window.
//
// WSO2 2.x, at 23:00, takes the percentile of a normal distribution with the mean and deviation of all thirty
// days, those five included, and does not see days without any event.
//
// Events that come late count for their day, but what was decided of it stays.
type underuse struct {
	start  int64 // of the first day in counts
	counts []int64
	life   lifetime
	bound  float64 // when it fired
}

func newUnderuse() judge { return &underuse{} }

func (u *underuse) follow(t *telling, happened []moment, through int64) {
	step := t.rule.Step.Microseconds()
	for _, m := range happened {
		if len(u.counts) > 0 && m.at < u.end(step) {
			t.late += m.n
			if m.at >= u.start {
				u.counts[(m.at-u.start)/step] += m.n
			}
			continue
		}
		u.pass(t, m.at)
		if len(u.counts) == 0 {
			u.start = m.at
		}
		u.day(t, m.n)
	}
	u.pass(t, through)
}

// end is that of the last day that was decided.
func (u *underuse) end(step int64) int64 { return u.start + int64(len(u.counts))*step }

// pass decides the days up to a time that have had no events.
func (u *underuse) pass(t *telling, at int64) {
	step := t.rule.Step.Microseconds()
	for len(u.counts) > 0 && u.end(step)+step <= at {
		u.day(t, 0)
	}
}

// day decides at the end of a day.
func (u *underuse) day(t *telling, n int64) {
	u.counts = append(u.counts, n)
	if drop := len(u.counts) - int(t.rule.Window/t.rule.Step); drop > 0 {
		u.counts = slices.Delete(u.counts, 0, drop)
		u.start += int64(drop) * t.rule.Step.Microseconds()
	}
	judged := min(len(u.counts), int(max(1, t.rule.AtLeast)))
	most, at := slices.Max(u.counts[len(u.counts)-judged:]), u.end(t.rule.Step.Microseconds())
	reason := ""
	if slices.Max(u.counts) == 0 {
		reason, most = forgotten, 0
	}
	bound, known := u.limit(t.rule)
	holds := reason == "" && known && float64(most) < bound
	u.life.advance(t.rule, at, holds, false, func(of turn) {
		u.bound = bound
		d := t.decision(opened{value: float64(most), threshold: bound}, of)
		t.say(d.because(reason))
	})
	if reason != "" {
		u.counts, u.life = nil, lifetime{}
	}
}

// limit is what a day must reach; known is false while too few days are learned from.
func (u *underuse) limit(r *Rule) (bound float64, known bool) {
	if u.life.firing {
		return u.bound, true
	}
	least := int(max(1, r.AtLeast))
	if len(u.counts) < 2*least {
		return 0, false
	}
	learned := slices.Clone(u.counts[:len(u.counts)-least])
	slices.Sort(learned)
	return percentile(learned, r.Lower), true
}

func (u *underuse) wake(r *Rule) int64 {
	if len(u.counts) == 0 {
		return never
	}
	step := r.Step.Microseconds()
	return u.end(step) + step
}

func (u *underuse) spent(*Rule, int64) bool { return len(u.counts) == 0 }

func (u *underuse) append(_ *Rule, to []byte) []byte {
	to = u.life.append(binary.AppendVarint(to, u.start))
	to = binary.AppendUvarint(appendNumber(to, u.bound), uint64(len(u.counts)))
	for _, n := range u.counts {
		to = binary.AppendVarint(to, n)
	}
	return to
}

func (u *underuse) read(_ *Rule, from *reader) {
	u.start, u.life, u.bound = from.varint(), from.lifetime(), from.number()
	for range from.count() {
		u.counts = append(u.counts, from.varint())
	}
}
