package alert

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// mostLog is how many of a key's newest events a run remembers, so that one that comes late finds its
// place among them.
const mostLog = 64

// run counts how many events of a key in a row match, as in: five calls of an API that failed.
//
// Each Threshold of them in a row fire, but not within Suppress of the last time. The first that does not match
// ends the run and the alert; so does, the alert only, that no event comes for as long as KeepFiring.
//
// An event that comes late, but not before the newest that are remembered, is put at its place, and what
// follows from all of these is decided again: the differences are told.
type run struct {
	every     float64 // Threshold, or what stands in its place for the key
	base, now progress
	first     position // nothing before it can be put in place any more
	log       []outcome
	calm      []chunk   // events behind those, none of which matches, by the time of the last
	said      []runTurn // from base on
	names     []renamed
}

// outcome is whether an event matched.
type outcome struct {
	position
	hit bool
}

// progress is how far a run is after an event.
type progress struct {
	length int64 // events in a row that match
	last   int64 // time of the last event; 0: there was none
	lifetime
}

// runTurn is a turn with the length that the run had.
type runTurn struct {
	turn

	length int64
	why    string // it is resolved, where that is not its end
}

// renamed says by which time an alert was told that late events have moved.
type renamed struct{ fired, told int64 }

func newRun() judge { return &run{} }

func (u *run) follow(t *telling, happened []moment, through int64) {
	happened = u.recall(happened)
	if t.threshold != u.every {
		u.settle()
		u.every = t.threshold
	}
	again := false
	for i := range happened {
		m := outcome{happened[i].position, happened[i].hit}
		n := len(u.log)
		switch {
		case m.compare(u.first) < 0:
			t.late++
			continue
		case n > 0 && m.compare(u.log[n-1].position) < 0:
			at, _ := slices.BinarySearchFunc(u.log, m, func(a, b outcome) int { return a.compare(b.position) })
			u.log, again = slices.Insert(u.log, at, m), true
			continue
		}
		u.log = append(u.log, m)
		if !again {
			u.now.take(t.rule, u.every, m, func(r runTurn) { u.said = append(u.said, r); u.tell(t, r) })
		}
	}
	if again {
		u.again(t, through)
	}
	u.now.silence(t.rule, through, func(r runTurn) { u.said = append(u.said, r); u.tell(t, r) })
	u.trim(t.rule)
}

// take is what an event does to a run.
func (p *progress) take(r *Rule, every float64, m outcome, say func(runTurn)) {
	if p.silence(r, m.at, say); gone(p.last, m.at) {
		*p = progress{}
	}
	p.last = m.at
	if !m.hit {
		p.end(m.at, "", say)
		p.length = 0
		return
	}
	p.length++
	if p.length%max(1, int64(every)) == 0 && !p.suppressed(r, m.at) && (p.fired == 0 || p.fired != m.at) {
		p.fire(m.at, func(of turn) { say(runTurn{of, p.length, ""}) })
	}
}

// silence ends an alert of which nothing has been heard for too long.
func (p *progress) silence(r *Rule, at int64, say func(runTurn)) {
	if end := p.last + r.silence(); p.firing && end <= at {
		p.end(end, silent, say)
	}
}

func (p *progress) end(at int64, why string, say func(runTurn)) {
	if p.firing {
		p.firing = false
		say(runTurn{turn{at: at, state: Resolved, fired: p.fired}, p.length, why})
	}
}

// silent is why an alert of a run is resolved though the run has not ended.
const silent = "nothing has happened for so long that it is over"

// silence is for how long nothing happens until an alert is over, in microseconds.
func (r *Rule) silence() int64 {
	if r.KeepFiring > 0 {
		return r.KeepFiring.Microseconds()
	}
	return r.lasting()
}

// again decides anew from base on, and tells the differences.
func (u *run) again(t *telling, through int64) {
	before := u.said
	u.said, u.now = nil, u.base
	note := func(r runTurn) { u.said = append(u.said, r) }
	for _, m := range u.log {
		u.now.take(t.rule, u.every, m, note)
	}
	u.now.silence(t.rule, through, note)
	same := func(in []runTurn, r runTurn) bool {
		return slices.ContainsFunc(in, func(of runTurn) bool { return of.turn == r.turn })
	}
	moved := map[int64]bool{} // alerts of before that are told as another of now
	names := slices.DeleteFunc(slices.Clone(u.names), func(name renamed) bool { return name.fired != u.base.fired })
	for _, r := range u.said {
		switch {
		case r.state != Firing:
		case same(before, r):
			names = append(names, renamed{r.at, u.told(r.at)})
		default:
			at := slices.IndexFunc(before, func(b runTurn) bool {
				return b.state == Firing && !moved[b.at] && !same(u.said, b) && max(b.at-r.at, r.at-b.at) < t.rule.Suppress.Microseconds()
			})
			if at < 0 {
				u.tell(t, r)
				continue
			}
			moved[before[at].at] = true
			names = append(names, renamed{r.at, u.told(before[at].at)})
		}
	}
	for _, b := range before {
		if b.state == Firing && !moved[b.at] && !same(u.said, b) {
			u.tell(t, runTurn{turn{at: b.at, state: Resolved, fired: b.at}, b.length, lateEvents})
		}
	}
	u.names = slices.DeleteFunc(names, func(name renamed) bool { return name.fired == name.told })
	for _, r := range u.said {
		if r.state == Resolved && !same(before, r) {
			u.tell(t, r)
		}
	}
}

// told is by which time an alert was told.
func (u *run) told(fired int64) int64 {
	for _, name := range u.names {
		if name.fired == fired {
			return name.told
		}
	}
	return fired
}

func (u *run) tell(t *telling, r runTurn) {
	d := t.decision(opened{value: float64(r.length), threshold: u.every}, r.turn)
	if r.state == Resolved {
		d.fired, d.reason = u.told(r.fired), r.why
	}
	t.say(d)
}

// trim makes certain what is before the newest events.
func (u *run) trim(r *Rule) {
	if len(u.log) <= 2*mostLog {
		return
	}
	drop := len(u.log) - mostLog
	turns := 0
	for _, m := range u.log[:drop] {
		u.base.take(r, u.every, m, func(runTurn) { turns++ })
	}
	u.first = u.log[drop-1].position
	u.log, u.said = slices.Delete(u.log, 0, drop), slices.Delete(u.said, 0, turns)
	u.names = slices.DeleteFunc(u.names, func(name renamed) bool {
		return name.fired != u.base.fired && !slices.ContainsFunc(u.said, func(of runTurn) bool { return of.at == name.fired || of.fired == name.fired })
	})
}

// settle makes certain all that was decided: it was, with another threshold.
func (u *run) settle() {
	if n := len(u.log); n > 0 {
		u.first = u.log[n-1].position
	}
	u.names = slices.DeleteFunc(u.names, func(name renamed) bool { return name.fired != u.now.fired })
	u.base, u.log, u.said = u.now, nil, nil
}

// pass takes in what has happened up to a time where none of it matches and there is no run: most APIs are fine, and have
// many events. These are put aside as they are, so that one that comes late finds its place among them. It reports
// whether that was all that there was to do.
//
// Of a batch that goes on behind that time nothing is taken yet: that events do not match can wait as well.
func (u *run) pass(h *history, every float64, through int64) bool {
	if u.now.length > 0 || u.now.firing || u.every != every {
		return false
	}
	newest := u.first.at
	if n := len(u.log); n > 0 {
		newest = u.log[n-1].at
	}
	for i := range h.waiting {
		if c := &h.waiting[i]; c.at <= through && (c.matches() || c.at <= newest) {
			return false
		}
	}
	h.early = never
	h.waiting = slices.DeleteFunc(h.waiting, func(c chunk) bool {
		switch {
		case c.last <= through:
			u.put(&c)
			return true
		case c.matches():
			h.early = min(h.early, c.at)
		default:
			h.early = min(h.early, c.last)
		}
		return false
	})
	return true
}

// put adds events that do not match to the newest that are remembered, and forgets what need not be.
func (u *run) put(c *chunk) {
	u.now.last = max(u.now.last, c.last)
	at, _ := slices.BinarySearchFunc(u.calm, c.last, func(o chunk, last int64) int { return cmp.Compare(o.last, last) })
	u.calm = slices.Insert(u.calm, at, c.own())
	rest := 0
	for i := range u.calm[1:] {
		rest += u.calm[i+1].left
	}
	drop := 0
	for ; drop+1 < len(u.calm) && rest >= mostLog; drop++ {
		u.settle()
		u.first = position{u.calm[drop].last, math.MaxUint64, math.MaxInt32}
		u.base.last = max(u.base.last, u.first.at)
		rest -= u.calm[drop+1].left
	}
	u.calm = slices.Delete(u.calm, 0, drop)
}

// recall puts what was put aside before what has happened.
func (u *run) recall(happened []moment) []moment {
	if len(u.calm) == 0 {
		return happened
	}
	all := append(u.aside(), happened...)
	u.calm = nil
	slices.SortFunc(all, func(a, b moment) int { return a.position.compare(b.position) })
	return all
}

// aside are the events that were put aside, in order.
func (u *run) aside() []moment {
	_, all := merge(slices.Clone(u.calm), never, nil)
	return slices.DeleteFunc(all, func(m moment) bool { return m.position.compare(u.first) < 0 })
}

func (u *run) wake(r *Rule) int64 {
	if u.now.firing {
		return u.now.last + r.silence()
	}
	return never
}

func (u *run) spent(_ *Rule, through int64) bool {
	return gone(u.now.last, through)
}

func (u *run) append(_ *Rule, to []byte) []byte {
	to = u.now.append(u.base.append(appendNumber(to, u.every)))
	log := slices.Clone(u.log)
	for _, m := range u.aside() { // they are behind those
		log = append(log, outcome{position: m.position})
	}
	to = binary.AppendUvarint(u.first.append(to), uint64(len(log)))
	before := u.first
	for _, m := range log {
		to = binary.AppendVarint(to, m.at-before.at)
		to = binary.AppendVarint(to, int64(m.sequence-before.sequence)) //nolint:gosec // wraps, and back
		to = binary.AppendVarint(to, int64(m.offset)<<1|flag(m.hit))
		before = m.position
	}
	to = binary.AppendUvarint(to, uint64(len(u.said)))
	for _, r := range u.said {
		for _, n := range []int64{r.at, flag(r.state == Resolved), r.fired, r.length} {
			to = binary.AppendVarint(to, n)
		}
	}
	to = binary.AppendUvarint(to, uint64(len(u.names)))
	for _, name := range u.names {
		to = binary.AppendVarint(binary.AppendVarint(to, name.fired), name.told)
	}
	return to
}

func (u *run) read(_ *Rule, from *reader) {
	u.every, u.base, u.now = from.number(), from.progress(), from.progress()
	u.first = from.position()
	before := u.first
	for range from.count() {
		m := outcome{position: position{at: before.at + from.varint(), sequence: before.sequence + uint64(from.varint())}} //nolint:gosec // wraps, as when it was written
		rest := from.varint()
		m.offset, m.hit = int32(rest>>1), rest&1 != 0 //nolint:gosec // as it was written
		u.log, before = append(u.log, m), m.position
	}
	for range from.count() {
		r := runTurn{turn: turn{at: from.varint(), state: Firing}}
		if from.varint() != 0 {
			r.state = Resolved
		}
		r.fired, r.length = from.varint(), from.varint()
		u.said = append(u.said, r)
	}
	for range from.count() {
		u.names = append(u.names, renamed{from.varint(), from.varint()})
	}
}

func (p progress) append(to []byte) []byte {
	return p.lifetime.append(binary.AppendVarint(binary.AppendVarint(to, p.length), p.last))
}

func (r *reader) progress() progress { return progress{r.varint(), r.varint(), r.lifetime()} }
