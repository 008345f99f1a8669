package alert

import (
	"slices"
	"sort"
	"time"
)

// lateness is for how long after a step was decided late events still change what was.
const lateness = int64(time.Hour / time.Microsecond)

// windowed decides a case by what the events of a key add up to in a sliding window.
//
// A key's past is kept as steps. What is decided is a function of them: the window's value
// changes where a step ends, and where one leaves the window, and at these times its [lifetime]
// is advanced, in order. An event that comes late changes its step; then all that
// was decided since is decided again, from the last state that is certain (base), and the
// differences are told.
type windowed struct {
	rule   *Rule
	of     *Case
	bounds *Bounds // that stand in place of the rule's
	series map[string]*series
	forgot []string // keys, since the last save
	late   int64    // events that were too late, since the last save

	through int64 // what is decided
	sums    []float64
	values  []float64 // of the evidence that is being added
}

// series is a key's past. Times are microseconds; a step is known by its end.
type series struct {
	key       EvidenceKey
	detailsAt int64
	known     int64 // end of its first step ever

	ends   []int64
	n      []int64
	values []float64 // Width per step

	base, now        lifetime
	baseAt, decided  int64 // up to when base and now have what happened
	said             []turn
	next             int64 // nothing changes before
	corrected, dirty bool
	trimmed          bool // its first steps are forgotten
}

func newWindowed(rule *Rule, of *Case) *windowed {
	return &windowed{rule: rule, of: of, series: map[string]*series{}}
}

func (w *windowed) window() int64 { return w.rule.Window.Microseconds() }
func (w *windowed) step() int64   { return max(1, w.rule.Step.Microseconds()) }
func (w *windowed) before() int64 { return w.rule.Before.Microseconds() }

// add takes in what a batch has.
func (w *windowed) add(e *Evidence, of int) {
	for key := range e.Keys {
		k := &e.Keys[key]
		c := e.chunk(key, of, w.values)
		s := w.series[joined(k.Parts)]
		for more := c.left > 0; more; more = c.next() {
			s = w.take(k, &c, s)
		}
		w.values = c.values
	}
}

// take takes in what a batch has of one step, of a key that is known or, where that is nil, not yet, and returns that.
func (w *windowed) take(key *EvidenceKey, c *chunk, s *series) *series {
	end := c.at + w.step()
	if end <= w.through-lateness || s != nil && s.trimmed && end <= s.baseAt {
		w.late += c.n
		return s
	}
	if s == nil {
		// Evidence comes before its time is decided, and then in any order: what comes earlier is not late yet.
		decided := min(end-1, w.through)
		s = &series{key: EvidenceKey{Parts: own(nil, key.Parts)}, known: end, baseAt: decided, decided: decided, next: never}
		w.series[joined(s.key.Parts)] = s
	}
	if c.at >= s.detailsAt {
		s.key.Details, s.detailsAt = own(s.key.Details, key.Details), c.at
	}
	s.baseAt = min(s.baseAt, end-1) // its life may begin earlier than was known
	s.known = min(s.known, end)
	s.dirty = true
	s.corrected = s.corrected || end <= s.decided
	s.next = min(s.next, end)
	w.put(s, end, c.n, c.values)
	return s
}

// put adds to a step.
func (w *windowed) put(s *series, end, n int64, values []float64) {
	i, found := slices.BinarySearch(s.ends, end)
	width := len(w.of.Merges)
	if !found {
		s.ends, s.n = slices.Insert(s.ends, i, end), slices.Insert(s.n, i, n)
		s.values = slices.Insert(s.values, i*width, values...)
		return
	}
	s.n[i] += n
	for m, merge := range w.of.Merges {
		of := &s.values[i*width+m]
		*of = merge.two(*of, values[m])
	}
}

// decide tells what follows from all that happened up to a time.
func (w *windowed) decide(through int64, say func(decision)) {
	w.through = max(w.through, through)
	for name, s := range w.series {
		if s.next > through && !s.corrected {
			continue
		}
		if s.corrected {
			w.decideAgain(s, say)
		}
		w.advance(s, &s.now, s.decided, through, func(t turn) {
			s.said = append(s.said, t)
			say(w.decision(s, t))
		})
		s.decided, s.dirty = max(s.decided, through), true
		w.trim(name, s, through-lateness)
	}
}

// advance goes from one time to another, from change to change.
func (w *windowed) advance(s *series, l *lifetime, from, through int64, say func(turn)) {
	for at := from; ; {
		at = w.nextAfter(s, l, at)
		if at > through {
			s.next = at
			return
		}
		_, found := slices.BinarySearch(s.ends, at)
		_, holds := w.judge(s, at)
		l.advance(w.rule, at, holds, found, say)
	}
}

// nextAfter is when something may change next.
func (w *windowed) nextAfter(s *series, l *lifetime, at int64) int64 {
	next := never
	try := func(shift int64) {
		i := sort.Search(len(s.ends), func(i int) bool { return s.ends[i]+shift > at })
		if i < len(s.ends) {
			next = min(next, s.ends[i]+shift)
		}
	}
	try(0)
	try(w.window())
	if w.rule.Type == Changed {
		try(w.before())
		try(w.before() + w.window())
	}
	if w.waits() && s.known+w.window() > at {
		next = min(next, s.known+w.window())
	}
	if w.rule.Forget > 0 {
		if gone := w.goneAt(s); gone > at {
			next = min(next, gone)
		}
	}
	if due := l.deadline(w.rule); due > at {
		next = min(next, due)
	}
	return next
}

// waits reports whether a key is judged only when it is known for a whole window: that little
// happened, cannot be said earlier.
func (w *windowed) waits() bool { return w.rule.Below || w.rule.Type == Absent }

// goneAt is when a key of which nothing is heard is no longer known.
func (w *windowed) goneAt(s *series) int64 {
	last := s.known
	if len(s.ends) > 0 {
		last = s.ends[len(s.ends)-1]
	}
	return last + w.rule.Forget.Microseconds()
}

// judge returns the value at a time, and whether the condition holds.
func (w *windowed) judge(s *series, at int64) (value float64, holds bool) {
	if w.waits() && at < s.known+w.window() {
		return 0, false
	}
	if w.rule.Forget > 0 && at >= w.goneAt(s) {
		return 0, false
	}
	n, value, ok := w.value(s, at)
	switch {
	case w.rule.Type == Absent:
		last, _ := slices.BinarySearch(s.ends, at+1)
		if last > 0 {
			value = float64(at-s.ends[last-1]) / 1e6
		}
		return value, n == 0
	case !ok: // there is none, and nothing can be said of it
		return 0, false
	case n < w.rule.AtLeast:
		return value, false
	case w.rule.Type == Changed:
		m, past, ok := w.value(s, at-w.before())
		if !ok || past == 0 || m < w.rule.AtLeast {
			return 0, false
		}
		value = Finite(value / past)
	}
	bound, ok := w.bound(s)
	return value, ok && w.rule.beyond(value, bound)
}

// value is what the window that ends at a time adds up to.
func (w *windowed) value(s *series, at int64) (n int64, value float64, ok bool) {
	from := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > at-w.window() })
	width := len(w.of.Merges)
	w.sums = append(w.sums[:0], make([]float64, width)...)
	for i := from; i < len(s.ends) && s.ends[i] <= at; i++ {
		n += s.n[i]
		for m, merge := range w.of.Merges {
			if v := s.values[i*width+m]; i == from {
				w.sums[m] = v
			} else {
				w.sums[m] = merge.two(w.sums[m], v)
			}
		}
	}
	if w.of.Compute == nil {
		return n, float64(n), true
	}
	value, ok = w.of.Compute(float64(n), w.sums)
	return n, value, ok
}

// bound is what the key's value is compared with, if there is one.
func (w *windowed) bound(s *series) (float64, bool) {
	if value, ok := w.bounds.For(s.key.Parts); ok {
		return value, true
	}
	return w.rule.Threshold, !w.rule.Unset
}

// decideAgain decides anew what late events may have changed, and tells the differences.
func (w *windowed) decideAgain(s *series, say func(decision)) {
	var now []turn
	s.now = s.base
	w.advance(s, &s.now, s.baseAt, s.decided, func(t turn) { now = append(now, t) })
	s.corrected = false
	near := func(a, b turn) bool {
		return a.state == b.state && max(a.at-b.at, b.at-a.at) < max(1, w.rule.Suppress.Microseconds())
	}
	before := s.said
	s.said = now
	for i, t := range now {
		if t.state != Firing {
			continue
		}
		at := slices.IndexFunc(before, func(b turn) bool { return near(t, b) })
		if at < 0 {
			say(w.decision(s, t).because(lateEvents))
			continue
		}
		s.rename(t.at, before[at].at, i) // it is known by the time that it was told with
	}
	for _, b := range before {
		if b.state == Firing && !slices.ContainsFunc(now, func(t turn) bool { return near(t, b) }) {
			say(w.decision(s, turn{at: b.at, state: Resolved, fired: b.at}).because(lateEvents))
		}
	}
	for _, t := range s.said {
		if t.state == Resolved && !slices.Contains(before, t) {
			say(w.decision(s, t))
		}
	}
}

// Why an alert is resolved though its condition has not ended.
const (
	lateEvents = "late events"
	forgotten  = "nothing has been heard of it for so long that it is no longer known"
)

// rename gives an alert that late events have moved the time that it was told with.
func (s *series) rename(from, to int64, at int) {
	s.said[at].at = to
	for i := range s.said {
		if s.said[i].state == Resolved && s.said[i].fired == from {
			s.said[i].fired = to
		}
	}
	if s.now.fired == from {
		s.now.fired = to
	}
}

// trim forgets what nothing that still counts depends on, once that is worth it.
func (w *windowed) trim(name string, s *series, horizon int64) {
	old := horizon - w.window() - w.before()
	drop := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > old })
	if drop < min(64, len(s.ends)) || horizon <= s.baseAt {
		return
	}
	next := s.next
	w.advance(s, &s.base, s.baseAt, horizon, func(turn) {})
	s.baseAt, s.next, s.trimmed = horizon, next, true
	s.said = slices.DeleteFunc(s.said, func(t turn) bool { return t.at <= horizon })
	width := len(w.of.Merges)
	s.ends, s.n = slices.Delete(s.ends, 0, drop), slices.Delete(s.n, 0, drop)
	s.values = slices.Delete(s.values, 0, drop*width)
	if len(s.ends) == 0 && s.now.idle(w.rule, horizon) && (!w.waits() || w.goneAt(s) <= horizon) {
		delete(w.series, name)
		w.forgot = append(w.forgot, name)
	}
}

func (w *windowed) decision(s *series, t turn) decision {
	value, _ := w.judge(s, t.at)
	d := decision{key: &s.key, turn: t, value: value}
	d.threshold, _ = w.bound(s)
	if t.state == Resolved && w.rule.Forget > 0 && t.at >= w.goneAt(s) {
		d.reason = forgotten
	}
	return d
}
