package alert

import (
	"slices"
	"strings"
	"time"
)

// sequential decides a case by what happened of each key, one thing after another.
//
// What is added waits until a time is decided that it is not after: by then all that happened before is
// there, whoever folded it. It is put in order and handed to the key's [judge]. What waits
// is remembered with the rest, so that nothing is lost when another evaluator takes over.
type sequential struct {
	of    *Case
	fresh func() judge

	bounds *Bounds // nil: the rule's own
	keys   map[string]*history
	awake  []*history // those of which something waits or ends by itself
	name   []byte     // of the key that is looked for
	ready  []moment   // what is judged of a key
	telling
	forgot []string // keys, since the last save

	swept int64 // up to when keys were looked through for those that are not heard of any more
}

// judge is what a type of rules remembers of one key, and how it decides.
type judge interface {
	// follow takes in what has happened up to a time, in order. Some of it may be before what it was
	// handed earlier: then it came late. The texts are to be cloned where they are remembered.
	follow(t *telling, happened []moment, through int64)
	// wake is when something changes without anything happening.
	wake(r *Rule) int64
	// spent reports whether the key can be forgotten: what comes then, or after it, is judged as if it were
	// the first.
	spent(r *Rule, through int64) bool
	append(r *Rule, to []byte) []byte
	read(r *Rule, from *reader)
}

// retired is after how long without events a key of some types is forgotten, with all that was
// learned of it.
const retired = 365 * 24 * time.Hour

// gone reports whether a key that was last heard of at one time is forgotten at another.
func gone(last, at int64) bool { return last+retired.Microseconds() <= at }

// mostOpen is how many alerts of one key that tell of something that happened are open at a time. What happens
// more is not told, but counted: whoever got a thousand of them needs no other.
const mostOpen = 1000

// history is what is known of a key.
type history struct {
	key       EvidenceKey
	detailsAt int64
	waiting   []chunk
	days      []moment          // of a rule of days, what waits is added up
	early     int64             // when the first of what waits can be judged
	open      map[string]opened // alerts of the last time, by what tells them apart
	full      int64             // until when no more alerts can be open
	judge     judge
	next      int64 // nothing changes before
	awake     bool
	dirty     bool
}

// opened is an alert that tells of something that happened at one time, and what it showed.
type opened struct {
	fired            int64
	apart            string
	shown            map[string]string
	value, threshold float64
}

func newSequential(rule *Rule, of *Case, fresh func() judge) *sequential {
	return &sequential{telling: telling{rule: rule}, of: of, fresh: fresh, keys: map[string]*history{}}
}

func (s *sequential) step() int64 { return s.rule.Step.Microseconds() }

// add takes in what a batch has.
func (s *sequential) add(e *Evidence, of int) {
	for key := range e.Keys {
		c := e.chunk(key, of, nil)
		if c.left == 0 {
			continue
		}
		h := s.find(&e.Keys[key])
		if c.last >= h.detailsAt {
			h.key.Details, h.detailsAt = own(h.key.Details, e.Keys[key].Details), c.last
		}
		s.wait(h, c)
	}
}

// own are texts that hold no evidence in memory: those before where they are the same, else copies.
func own(before, texts []string) []string {
	if len(before) > 0 && slices.Equal(before, texts) {
		return before
	}
	owned := make([]string, len(texts))
	for i, text := range texts {
		owned[i] = strings.Clone(text)
	}
	return owned
}

func (s *sequential) find(key *EvidenceKey) *history {
	s.name = s.name[:0]
	for i, part := range key.Parts { // as joined does
		if i > 0 {
			s.name = append(s.name, 0)
		}
		s.name = append(s.name, part...)
	}
	h := s.keys[string(s.name)]
	if h == nil {
		h = &history{key: EvidenceKey{Parts: own(nil, key.Parts)}, judge: s.fresh(), next: never, early: never}
		s.keys[joined(h.key.Parts)] = h
	}
	s.wake(h)
	h.dirty = true
	return h
}

func (s *sequential) wake(h *history) {
	if !h.awake {
		h.awake, s.awake = true, append(s.awake, h)
	}
}

// wait puts off what happened until its time is decided.
func (s *sequential) wait(h *history, c chunk) {
	h.early = min(h.early, c.at+s.step())
	h.next = min(h.next, h.early)
	if s.rule.Type == Underuse {
		h.addDays(&c)
	} else {
		h.waiting = append(h.waiting, c)
	}
}

// addDays adds up what happened on each day.
func (h *history) addDays(c *chunk) {
	for more := c.left > 0; more; more = c.next() {
		if i := slices.IndexFunc(h.days, func(w moment) bool { return w.at == c.at }); i >= 0 {
			h.days[i].n += c.n
		} else {
			h.days = append(h.days, moment{position: c.position, n: c.n})
		}
	}
}

// decide tells what follows from all that happened up to a time.
func (s *sequential) decide(through int64, say func(decision)) {
	awake := s.awake[:0]
	for _, h := range s.awake {
		if h.next <= through {
			s.decideKey(h, through, say)
		}
		if h.awake = h.next != never; h.awake {
			awake = append(awake, h)
		}
	}
	clear(s.awake[len(awake):])
	s.awake = awake
	if through >= s.swept+time.Hour.Microseconds() {
		s.sweep(through)
	}
}

func (s *sequential) decideKey(h *history, through int64, say func(decision)) {
	s.history, s.threshold, s.say = h, s.bound(h), say
	if u, ok := h.judge.(*run); !ok || !u.pass(h, s.threshold, through) {
		h.judge.follow(&s.telling, s.due(h, through), through)
	}
	s.close(through)
	h.next, h.dirty = s.after(h), true
}

// bound is what holds for a key.
func (s *sequential) bound(h *history) float64 {
	if value, found := s.bounds.For(h.key.Parts); found {
		return value
	}
	return s.rule.Threshold
}

// due takes what happened up to a time from what waits, in order. The result is valid until the next call.
func (s *sequential) due(h *history, through int64) []moment {
	if h.early > through {
		return nil
	}
	clear(s.ready) // texts of another key
	h.early = never
	limit := through - s.step()
	h.waiting, s.ready = merge(h.waiting, limit, s.ready[:0])
	for i := range h.waiting {
		h.early = min(h.early, h.waiting[i].at+s.step())
	}
	h.days = slices.DeleteFunc(h.days, func(m moment) bool {
		if m.at > limit {
			h.early = min(h.early, m.at+s.step())
			return false
		}
		s.ready = append(s.ready, m)
		return true
	})
	if s.step() > 0 { // what is of one step has no order of its own
		slices.SortFunc(s.ready, func(a, b moment) int { return a.compare(&b) })
	}
	return s.ready
}

// after is when something changes next.
func (s *sequential) after(h *history) int64 {
	next := min(h.early, h.judge.wake(s.rule))
	for _, o := range h.open {
		next = min(next, o.fired+s.rule.lasting())
	}
	return next
}

// sweep forgets the keys of which nothing is needed any more.
func (s *sequential) sweep(through int64) {
	s.swept = through
	for name, h := range s.keys {
		if !h.awake && h.judge.spent(s.rule, through) {
			delete(s.keys, name)
			s.forgot = append(s.forgot, name)
		}
	}
}

// lasting is how long an alert of something that happened at one time stays open, in microseconds.
func (r *Rule) lasting() int64 {
	return max(r.KeepFiring, r.Suppress, time.Second).Microseconds()
}

// telling is how a judge tells what it decides of a key. It holds until the judge is asked about the next.
type telling struct {
	rule      *Rule
	threshold float64
	history   *history
	say       func(decision)

	late, crowds int64
}

// happened tells of something that happened at one time, unless the same was told a short
// time ago. It is over by itself, or when the same happens again.
func (t *telling) happened(o opened) {
	before, open := t.history.open[o.apart]
	if open {
		if o.fired-before.fired < max(1, t.rule.Suppress.Microseconds()) {
			return
		}
		t.over(before, min(o.fired, before.fired+t.rule.lasting()))
	} else if !t.room(o.fired) {
		t.crowds++
		return
	}
	if t.history.open == nil {
		t.history.open = map[string]opened{}
	}
	t.history.open[o.apart] = o
	t.say(t.decision(o, turn{at: o.fired, state: Firing}))
}

// room reports whether another alert of the key can be open at a time.
func (t *telling) room(at int64) bool {
	h := t.history
	if len(h.open) < mostOpen {
		return true
	}
	if at < h.full {
		return false
	}
	t.close(at)
	h.full = never
	for _, o := range h.open {
		h.full = min(h.full, o.fired+t.rule.lasting())
	}
	return len(h.open) < mostOpen
}

// close ends the alerts that are over.
func (t *telling) close(through int64) {
	for apart, o := range t.history.open {
		if end := o.fired + t.rule.lasting(); end <= through {
			t.over(o, end)
			delete(t.history.open, apart)
		}
	}
}

func (t *telling) over(o opened, at int64) {
	t.say(t.decision(o, turn{at: at, state: Resolved, fired: o.fired}))
}

func (t *telling) decision(o opened, of turn) decision {
	return decision{
		turn: of, key: &t.history.key, shown: o.shown, apart: o.apart, value: o.value, threshold: o.threshold,
	}
}
