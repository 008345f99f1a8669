package definition

import (
	"slices"
	"time"

	"weir/pkg/alert"
)

// What a rule has where it does not say.
const (
	defaultSuppress = 10 * time.Minute // as WSO2
	defaultForget   = day
	defaultBefore   = 7 * day
)

// maxSteps is how many steps of time a key may have to keep.
const maxSteps = 50_000

// unset says that a rule has no bound but where one is set at run time.
const unset = "unset"

// figures reads all that a rule, or a case of it, compares and waits for.
func (r reader) figures(rule *alert.Rule, kind kindOfRule, text ruleText) {
	before := len(*r.problems)
	r.complete(kind, text)
	r.bound(rule, text)
	r.learning(rule, text)
	r.times(rule, text)
	if len(*r.problems) == before { // else they are consequences
		r.fit(rule, text)
	}
}

// ruleScope reads whose traffic the rule is decided on; both where it can be.
func (r reader) ruleScope(rule *alert.Rule, text ruleText, variants []variant) {
	why := ""
	for _, v := range variants {
		if why = v.notLocal(rule.Type); why != "" {
			break
		}
	}
	switch text.scope.text() {
	case "":
		rule.Local, rule.Global = why == "", true
	case "global":
		rule.Global = true
	case "local", "both":
		if why != "" {
			r.bad(text.scope.Node, "scope must be global: %s", why)
		}
		rule.Local, rule.Global = true, text.scope.Value == "both"
	default:
		r.bad(text.scope.Node, "unknown scope %q%s", text.scope.Value, suggest(text.scope.Value, []string{"local", "global", "both"}))
	}
	if rule.Global {
		return
	}
	for _, v := range variants {
		if s := v.its.figure("keep_firing_for"); s.given() {
			v.bad(s.Node, "keep_firing_for has no place in a rule that is only local: its alerts are not resolved")
		}
	}
}

// notLocal says why one worker cannot decide a case; "": it can.
func (v *variant) notLocal(of alert.Type) string {
	window, err := ParseDuration(v.its.figure("window").text())
	switch {
	case of != alert.PerEvent && of != alert.Counted:
		return "only rules of type event and count can be decided on one worker's share of the traffic"
	case v.its.has("aggregation"):
		return "an aggregation's events are looked at over all traffic only"
	case v.its.has("below") || v.its.has("fewer_than"):
		return "one worker's share of the traffic cannot tell that there is too little"
	case v.its.has("for"):
		return "for is decided over all traffic only, a local alert is told at once"
	case of == alert.Counted && err == nil && window%time.Minute != 0:
		return "a worker counts in minutes, and window is not made of whole ones"
	}
	return ""
}

// bound reads what a rule compares with.
func (r reader) bound(rule *alert.Rule, text ruleText) {
	rule.Threshold, rule.Below, rule.Unset = 0, false, false
	for _, name := range []string{"above", "below", "more_than", "fewer_than", "in_a_row"} {
		s := text.figure(name)
		if !s.given() {
			continue
		}
		rule.Below = name == "below" || name == "fewer_than"
		switch {
		case s.Value == unset && (rule.Type == alert.PerEvent || rule.Type == alert.Counted):
			rule.Unset = true
		case s.Value == unset:
			r.bad(s.Node, "%s can be unset in rules of type event and count only: give a number", name)
		case name == "above" || name == "below":
			rule.Threshold = r.float(name, s)
		case name == "more_than":
			rule.Threshold = float64(r.count(name, s, 0))
		default: // that there are fewer than none, or none in a row, is never so or always
			rule.Threshold = float64(r.count(name, s, 1))
		}
		if rule.Type == alert.Transition && (rule.Threshold < 0 || rule.Threshold >= 1) {
			r.bad(s.Node, "below is a probability here: from 0 (a step that was never taken) to less than 1, it is %g", rule.Threshold)
		}
	}
}

func (r reader) count(name string, s scalar, least int64) int64 {
	n := r.int(name, s)
	if s.Tag == "!!int" && n < least {
		r.bad(s.Node, "%s must be %d or more, it is %s", name, least, s.Value)
	}
	return n
}

// learning reads from when on a key is known, and what of it is usual.
func (r reader) learning(rule *alert.Rule, text ruleText) {
	least := int64(0)
	rule.AtLeast, rule.Lower, rule.Upper = 0, 0, 0
	switch rule.Type {
	case alert.Unseen:
		rule.AtLeast = 100
	case alert.Transition:
		rule.AtLeast = 500
	case alert.Interval:
		least, rule.AtLeast = 2, 20
		if !text.has("lower") && !text.has("upper") { // one alone is the only bound
			rule.Lower, rule.Upper = 10, 95
		}
	case alert.Underuse:
		least = 1
	case alert.PerEvent, alert.Counted, alert.Measured, alert.Absent, alert.Changed, alert.Run:
	}
	if s := text.figure("at_least"); s.given() {
		rule.AtLeast = r.count("at_least", s, least)
	}
	for _, of := range []struct {
		name string
		to   *float64
	}{{"lower", &rule.Lower}, {"upper", &rule.Upper}} {
		s := text.figure(of.name)
		if !s.given() {
			continue
		}
		if *of.to = r.float(of.name, s); *of.to <= 0 || *of.to >= 100 {
			r.bad(s.Node, "%s is a percentile: above 0 and below 100, it is %s", of.name, s.Value)
		}
	}
}

// times reads the durations of a rule, and what they are where none are given.
func (r reader) times(rule *alert.Rule, text ruleText) {
	get := func(name string, standard time.Duration) time.Duration {
		if s := text.figure(name); s.given() {
			return r.duration(name, s)
		}
		return standard
	}
	rule.Suppress = get("suppress", defaultSuppress)
	rule.For, rule.Window = get("for", 0), get("window", 0)
	keep, forget := time.Duration(0), time.Duration(0)
	low := max(defaultForget, 2*(rule.Window+rule.For)) // what is silent is judged before it is forgotten
	switch rule.Type {
	case alert.PerEvent: // an event holds no condition: its alert lasts until none has come for as long
		rule.Window, keep = time.Second, rule.Suppress
	case alert.Run:
		keep = rule.Suppress
	case alert.Absent:
		forget = low
	case alert.Unseen:
		forget = 30 * day
	case alert.Transition:
		forget = time.Hour
	case alert.Changed:
		rule.Before = get("before", defaultBefore)
	case alert.Counted, alert.Measured:
		if rule.Below {
			forget = low
		}
	case alert.Interval, alert.Underuse:
	}
	rule.KeepFiring, rule.Forget = get("keep_firing_for", keep), get("forget", forget)
	if (rule.Type == alert.Counted || rule.Type == alert.Measured) && !rule.Below {
		rule.Forget = 0 // a key of which nothing is heard exceeds nothing
	}
	rule.Step = stepOf(rule)
}

// fit checks what the figures must be to one another.
func (r reader) fit(rule *alert.Rule, text ruleText) {
	at := func(names ...string) scalar { // what to change: the first that is given
		for _, name := range names {
			if s := text.figure(name); s.given() {
				return s
			}
		}
		return text.name
	}
	for _, name := range []string{"window", "forget"} {
		s := text.figure(name)
		length, err := ParseDuration(s.text())
		switch {
		case !s.given():
		case err != nil: // reported
			return
		case length == 0:
			r.bad(s.Node, "%s must be longer than nothing", name)
			return
		}
	}
	days := int64(rule.Window / day)
	switch {
	case slices.Contains([]alert.Type{alert.Absent, alert.Counted, alert.Measured}, rule.Type) && rule.Forget > 0 && rule.Forget <= rule.Window+rule.For:
		r.bad(at("forget").Node, "forget must be longer than window and for together: else a key is forgotten before it is judged")
	case rule.Type == alert.Changed && rule.Before < rule.Window:
		r.bad(at("before", "window").Node, "before (7 days by default) must be as long as window at least: else the two windows overlap")
	case rule.Type == alert.Changed && rule.Before%rule.Step != 0:
		r.bad(at("before", "window").Node, "before (7 days by default) must be a multiple of a quarter of window, which is %s: the two windows are made of such steps", rule.Step)
	case rule.Step > 0 && (rule.Before+rule.Window)/rule.Step > maxSteps:
		r.bad(at("before", "window").Node, "a key would have to keep %d steps of %s, at most %d: give rounder times, or look less far back",
			(rule.Before+rule.Window)/rule.Step, rule.Step, maxSteps)
	case rule.Type == alert.Underuse && rule.Window%day != 0:
		r.bad(at("window").Node, "window must be whole days")
	case rule.Type == alert.Underuse && rule.AtLeast > days/2:
		r.bad(at("at_least").Node, "at_least must be half of the %d days of the window at most, so that as many are left to learn from; it is %d", days, rule.AtLeast)
	case rule.Type == alert.Interval && rule.Upper > 0 && rule.Lower >= rule.Upper:
		r.bad(at("lower").Node, "lower must be less than upper, which is %g", rule.Upper)
	}
}

// stepOf is the resolution in which a rule's window slides: a sixtieth of it, but a second at
// least and ten seconds at most, and of a day and more coarser, so that a key keeps a few
// thousand steps; of windows that are compared with another, a quarter.
func stepOf(rule *alert.Rule) time.Duration {
	switch rule.Type {
	case alert.Transition, alert.Run, alert.Interval:
		return 0 // each event by itself
	case alert.Changed:
		return max(time.Second, rule.Window/4)
	case alert.Unseen, alert.PerEvent:
		return time.Second
	case alert.Underuse:
		return day
	case alert.Counted, alert.Measured, alert.Absent:
	}
	for _, of := range []struct{ step, window time.Duration }{
		{time.Hour, 60 * day},
		{10 * time.Minute, 10 * day},
		{time.Minute, day},
		{10 * time.Second, 10 * time.Minute},
		{5 * time.Second, 5 * time.Minute},
		{2 * time.Second, 2 * time.Minute},
	} {
		if rule.Window >= of.window && rule.Window%of.step == 0 {
			return of.step
		}
	}
	return time.Second
}
