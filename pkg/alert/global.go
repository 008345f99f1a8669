package alert

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Global decides the alerts of one partition of the keys over all traffic. It belongs to one
// goroutine, and remembers for each key what its rules need of the past; see Save.
//
// Whatever order evidence is added in, and however events were dealt out to batches, the same
// alerts are decided, as long as nothing is added that happened before what is decided.
type Global struct {
	deciders []*deciding
	byName   map[[2]string]*deciding
}

// deciding is a case with what decides it.
type deciding struct {
	decider

	rule *Rule
	of   *Case
}

// decider decides one case of one rule, over the keys of one partition.
type decider interface {
	// add takes in what a batch has, which is one of the evidence's cases. It may have happened before what is decided:
	// then what was decided is decided anew where the rule can, and it counts as late where not.
	add(e *Evidence, of int)
	// decide tells what follows from all that happened up to a time, in microseconds since
	// 1970 UTC. Each call's time is at least the one before's.
	decide(through int64, say func(decision))
	// setBounds lets thresholds stand in place of the rule's; nil is none.
	setBounds(*Bounds)
	// save hands out the keys that have changed since the last call, with what is remembered
	// of them; nil: nothing.
	save(each func(key []string, state []byte))
	// load takes back what save has handed out. It is called before all else.
	load(key []string, state []byte) error
	// size is the number of keys, lates the number of events that came too late to be
	// judged, and crowded how much had to be forgotten, or could not be told, because a key had
	// too much of it, both since the last call.
	size() int
	lates() int64
	crowded() int64
}

// decision is what a case has decided of a key.
type decision struct {
	turn

	key       *EvidenceKey
	shown     map[string]string // placeholders and details beside those of the case
	apart     string            // what tells alerts of the same key and time apart
	value     float64
	threshold float64
	reason    string
}

// because gives a resolved alert the reason why.
func (d decision) because(reason string) decision {
	if d.state == Resolved {
		d.reason = reason
	}
	return d
}

// NewGlobal returns an evaluator with nothing remembered.
func NewGlobal(rules []*Rule) *Global {
	g := &Global{byName: map[[2]string]*deciding{}}
	for _, rule := range rules {
		for i := range rule.Cases {
			if of := &rule.Cases[i]; rule.Global {
				by := rule.by(of)
				d := &deciding{newDecider(by, of), by, of}
				g.deciders = append(g.deciders, d)
				g.byName[[2]string{rule.Name, of.Name}] = d
			}
		}
	}
	return g
}

func newDecider(rule *Rule, of *Case) decider {
	switch rule.Type {
	case Unseen:
		return newSequential(rule, of, newUnseen)
	case Transition:
		return newSequential(rule, of, newTransition)
	case Run:
		return newSequential(rule, of, newRun)
	case Interval:
		return newSequential(rule, of, newInterval)
	case Underuse:
		return newSequential(rule, of, newUnderuse)
	case PerEvent, Counted, Measured, Absent, Changed:
	}
	return newWindowed(rule, of)
}

// SetThresholds lets the thresholds stand in place of those that were set before, for what is
// decided from now on. nil is none.
func (g *Global) SetThresholds(thresholds *Thresholds) {
	for _, d := range g.deciders {
		d.setBounds(thresholds.For(d.rule.Name, d.of.Name))
	}
}

// Add takes in evidence. What concerns no rule that there is, is passed over.
func (g *Global) Add(all []Evidence) {
	for i := range all {
		e := &all[i]
		for of, name := range e.Cases {
			if d := g.byName[[2]string{e.Rule, name}]; d != nil && e.fits(d.rule, d.of) {
				d.add(e, of)
			}
		}
	}
}

// fits reports whether the evidence tells what a case wants to know: definitions may have changed since it was written.
func (e *Evidence) fits(r *Rule, of *Case) bool {
	if e.width != len(of.Merges) || e.has != r.has() {
		return false
	}
	for _, key := range e.Keys {
		if len(key.Parts) != len(of.Key) || len(key.Details) != len(of.Details) {
			return false
		}
	}
	return true
}

// Decide returns the alerts that follow from all that happened up to a time, in the order in which they did.
func (g *Global) Decide(through time.Time) []Alert {
	var alerts []Alert
	for _, d := range g.deciders {
		d.decide(through.UnixMicro(), func(made decision) { alerts = append(alerts, d.alert(&made)) })
	}
	slices.SortStableFunc(alerts, func(a, b Alert) int {
		return cmp.Or(a.at().Compare(b.at()), cmp.Compare(a.ID, b.ID))
	})
	return alerts
}

// at is when it became what it is.
func (a *Alert) at() time.Time {
	if a.State == Resolved {
		return a.ResolvedAt
	}
	return a.FiredAt
}

// Remembered is what a case remembers of one key.
type Remembered struct {
	Rule, Case string
	Key        []string
	Data       []byte // nil: nothing any more
}

// Save hands out what has changed since it was last called.
func (g *Global) Save(each func(Remembered)) {
	for _, d := range g.deciders {
		d.save(func(key []string, state []byte) { each(Remembered{d.rule.Name, d.of.Name, key, state}) })
	}
}

// Load takes back what Save has handed out, before anything is added. What no rule can use
// any more is passed over: it is reported.
func (g *Global) Load(r Remembered) (used bool) {
	d := g.byName[[2]string{r.Rule, r.Case}]
	return d != nil && d.load(r.Key, r.Data) == nil
}

// Keys is how many keys are remembered.
func (g *Global) Keys() (n int) {
	for _, d := range g.deciders {
		n += d.size()
	}
	return n
}

// Late is how many events came too late to be judged, since it was last asked.
func (g *Global) Late() (n int64) {
	for _, d := range g.deciders {
		n += d.lates()
	}
	return n
}

// Crowded is of how many members and steps of keys nothing was remembered, or told, because a key had too many of
// them, since it was last asked.
func (g *Global) Crowded() (n int64) {
	for _, d := range g.deciders {
		n += d.crowded()
	}
	return n
}

func (d *deciding) alert(made *decision) Alert {
	r, of := d.rule, d.of
	a := Alert{
		Rule: r.Name, Case: of.Name, Scope: ScopeGlobal, State: made.state, Severity: r.Severity, Labels: r.Labels,
		Key: map[string]string{}, Value: made.value, Threshold: made.threshold, Reason: made.reason,
		FiredAt: time.UnixMicro(made.at).UTC(),
	}
	a.quiet = r.Suppress
	a.quietBy = []string{r.Name, of.Name, joined(made.key.Parts), made.apart}
	a.ID = d.id(made, made.at)
	if made.state == Resolved {
		a.FiringID = d.id(made, made.fired)
		a.ID = id(a.FiringID, string(Resolved))
		a.FiredAt, a.ResolvedAt = time.UnixMicro(made.fired).UTC(), a.FiredAt
	}
	for i, part := range of.Key {
		a.Key[part.Name] = clip(made.key.Parts[i])
	}
	for i, name := range of.Details {
		a.detail(name, made.key.Details[i])
	}
	for name, text := range made.shown {
		a.detail(name, clip(text))
	}
	a.Message = message(r, of, &a)
	a.Stakeholder = of.Stakeholder.of(&a)
	return a
}

func (a *Alert) detail(name, text string) {
	if a.Details == nil {
		a.Details = map[string]string{}
	}
	a.Details[name] = text
}

func (d *deciding) id(made *decision, fired int64) string {
	return id(d.rule.Name, d.of.Name, string(ScopeGlobal), joined(made.key.Parts), made.apart, strconv.FormatInt(fired, 10))
}

// joined is a key as one text. Texts of events hold no NUL byte, so that different keys never
// join to the same text.
func joined(parts []string) string { return strings.Join(parts, "\x00") }

// message is the case's template, filled. What is put in is not looked at again.
func message(r *Rule, of *Case, a *Alert) string {
	text := func(name string) (string, bool) {
		switch name {
		case "value":
			return figure(a.Value), true
		case "threshold":
			return figure(a.Threshold), true
		case "window":
			return formatWindow(r.Window), true
		}
		if part, ok := a.Key[name]; ok {
			return part, true
		}
		detail, ok := a.Details[name]
		return detail, ok
	}
	var b strings.Builder
	rest := of.Message
	for {
		before, after, open := strings.Cut(rest, "{")
		b.WriteString(before)
		if !open {
			return b.String()
		}
		name, behind, closed := strings.Cut(after, "}")
		if with, ok := text(name); ok && closed {
			b.WriteString(with)
			rest = behind
		} else {
			b.WriteByte('{')
			rest = after
		}
	}
}

// figure is a number as people read it.
func figure(f float64) string {
	if rounded := strconv.FormatFloat(f, 'f', 3, 64); strings.Contains(rounded, ".") {
		return strings.TrimRight(strings.TrimRight(rounded, "0"), ".")
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func (s StakeholderOf) of(a *Alert) Stakeholder {
	if s.Role == "" {
		return Stakeholder{}
	}
	find := func(name string) string {
		if text, ok := a.Key[name]; ok {
			return text
		}
		return a.Details[name]
	}
	return Stakeholder{Role: s.Role, User: find(s.User), Tenant: find(s.Tenant)}
}
