package alert

import "math"

// lifetime is where a key is in the life of its alerts: quiet, pending while its condition
// holds but has not for long enough, or firing. Its times are microseconds since 1970 UTC.
// The zero value is quiet and has never fired.
type lifetime struct {
	pending int64 // since when the condition holds, while nothing fires; 0: it does not
	firing  bool
	ended   int64 // since when the condition does not hold, while the alert fires; 0: it does
	fired   int64 // when it fired last; 0: never
}

// never is later than every deadline.
const never = int64(math.MaxInt64)

// turn is a change in a lifetime that the world is told of.
type turn struct {
	at    int64
	state State
	fired int64 // of a resolved one: when it had fired
}

// advance takes in whether the condition holds at a time. Fresh: because of something that
// happened then, so that an event or count rule whose last alert is long enough ago tells again,
// as WSO2 does.
func (l *lifetime) advance(r *Rule, at int64, holds, fresh bool, say func(turn)) {
	switch {
	case holds && !l.firing:
		if l.pending == 0 {
			l.pending = at
		}
		if at-l.pending >= r.For.Microseconds() && !l.suppressed(r, at) {
			l.fire(at, say)
		}
	case holds:
		l.ended = 0
		if fresh && r.repeats() && !l.suppressed(r, at) {
			l.fire(at, say)
		}
	default:
		l.pending = 0
		if !l.firing {
			return
		}
		if l.ended == 0 {
			l.ended = at
		}
		if at-l.ended >= r.KeepFiring.Microseconds() {
			say(turn{at: at, state: Resolved, fired: l.fired})
			l.firing, l.ended = false, 0
		}
	}
}

func (l *lifetime) fire(at int64, say func(turn)) {
	l.pending, l.firing, l.ended, l.fired = 0, true, 0, at
	say(turn{at: at, state: Firing})
}

// repeats reports whether an alert that still fires is told again.
func (r *Rule) repeats() bool { return (r.Type == PerEvent || r.Type == Counted) && !r.Below }

func (l *lifetime) suppressed(r *Rule, at int64) bool {
	return l.fired != 0 && at-l.fired < r.Suppress.Microseconds()
}

// deadline is when something changes without anything happening.
func (l *lifetime) deadline(r *Rule) int64 {
	switch {
	case l.pending != 0:
		at := l.pending + r.For.Microseconds()
		if l.fired != 0 {
			at = max(at, l.fired+r.Suppress.Microseconds())
		}
		return at
	case l.firing && l.ended != 0:
		return l.ended + r.KeepFiring.Microseconds()
	}
	return never
}

// idle reports whether the key could be forgotten at a time, as far as this goes.
func (l *lifetime) idle(r *Rule, at int64) bool {
	return !l.firing && l.pending == 0 && !l.suppressed(r, at)
}
