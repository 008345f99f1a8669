package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/event"
)

// step is the resolution of a counted rule's sliding window, in microseconds:
// the window's old end moves in steps of this.
const step = int64(time.Minute / time.Microsecond)

// Local evaluates rules over the events of one shard. It belongs to one
// goroutine. What Evaluate decides takes effect on its state only with
// Commit; the next Evaluate forgets what was not committed.
type Local struct {
	rules   []*Rule
	shardID string

	thresholds *Thresholds
	known      map[*Case]*known // of the cases that have thresholds

	tracks  map[string]track
	pending map[string]track
	newest  int64 // newest event time committed, microseconds since 1970 UTC
	pruneAt int   // size at which tracks is pruned next
}

// track is what is remembered of one key of one case.
type track struct {
	fired  []int64 // event times of its last alerts, in the order of decision
	counts []count
}

// maxFired is how many alerts of a key are remembered: with one only, late
// events that come in between others would undo the suppression of these.
const maxFired = 8

// count is the number of events in one step of time.
type count struct{ start, n int64 }

// NewLocal returns an evaluator with nothing remembered.
func NewLocal(rules []*Rule, shardID string) *Local {
	return &Local{rules: rules, shardID: shardID, tracks: map[string]track{}, pending: map[string]track{}, pruneAt: 10_000}
}

// SetThresholds lets the thresholds stand in place of those that were set
// before, from the next Evaluate on. nil is none.
func (l *Local) SetThresholds(thresholds *Thresholds) {
	if thresholds == l.thresholds {
		return
	}
	l.thresholds, l.known = thresholds, map[*Case]*known{}
	for _, rule := range l.rules {
		for i := range rule.Cases {
			c := &rule.Cases[i]
			if bounds := thresholds.For(rule.Name, c.Name); bounds != nil {
				l.known[c] = newKnown(rule.by(c), c, bounds)
			}
		}
	}
}

// Evaluate returns the alerts that the batch's events raise. Events marked
// Dropped are passed over.
func (l *Local) Evaluate(batch []*event.Columns) []Alert {
	clear(l.pending)
	var alerts []Alert
	for at, rule := range l.rules {
		if !rule.Local {
			continue
		}
		for _, columns := range batch {
			if columns.Schema.Name != rule.Stream {
				continue
			}
			for i := range rule.Cases {
				prefix := strconv.Itoa(at) + "/" + strconv.Itoa(i)
				alerts = l.evaluate(alerts, rule.by(&rule.Cases[i]), &rule.Cases[i], prefix, columns)
			}
		}
	}
	return alerts
}

// Commit makes the last Evaluate's decisions part of the state.
func (l *Local) Commit() {
	for key, t := range l.pending {
		l.tracks[key] = t
		l.newest = max(l.newest, t.newest())
	}
	clear(l.pending)
	if len(l.tracks) >= l.pruneAt {
		l.prune()
		l.pruneAt = max(10_000, 2*len(l.tracks))
	}
}

func (l *Local) evaluate(alerts []Alert, rule *Rule, c *Case, prefix string, columns *event.Columns) []Alert {
	known, loosest, threshold := l.known[c], rule.Threshold, rule.Threshold
	switch {
	case rule.Below, known == nil && rule.Unset:
		return alerts // that little happens cannot be said of a share
	case known != nil:
		known.begin()
		loosest = known.bounds.loosest
	}
	for row := range columns.Len() {
		if columns.Dropped[row] || c.Where >= 0 && columns.Cells[c.Where][row] == 0 {
			continue
		}
		value := 0.0
		if rule.Type == PerEvent {
			if value = number(columns, rule.Value, row); value <= loosest {
				continue
			}
		}
		if known != nil {
			var found bool
			if threshold, found = known.of(columns, row); !found || rule.Type == PerEvent && value <= threshold {
				continue
			}
		}
		at := columns.Times[row]
		key := prefix + keyText(c, columns, row)
		t := l.track(key)
		if rule.Type == Counted {
			t = t.add(at, rule.Window)
			value = float64(t.sum(at, rule.Window))
		}
		if value > threshold && !t.suppressed(at, rule.Suppress) {
			t = t.fire(at)
			alerts = append(alerts, l.alert(rule, c, columns, row, value, threshold))
		}
		l.pending[key] = t
	}
	return alerts
}

func (l *Local) track(key string) track {
	if t, ok := l.pending[key]; ok {
		return t
	}
	return l.tracks[key]
}

// suppressed reports whether one of the key's last alerts is near enough,
// before or, for a late event, after.
func (t track) suppressed(at int64, suppress time.Duration) bool {
	for _, fired := range t.fired {
		if max(at-fired, fired-at) < suppress.Microseconds() {
			return true
		}
	}
	return false
}

// fire remembers an alert. Like add it does not touch what it was given.
func (t track) fire(at int64) track {
	last := t.fired[max(0, len(t.fired)+1-maxFired):]
	t.fired = append(slices.Clone(last), at)
	return t
}

// add counts an event and forgets steps that are out of the window. It does
// not touch the counts it was given: they may be the committed ones.
func (t track) add(at int64, window time.Duration) track {
	start := at - at%step
	newest := start
	for _, c := range t.counts {
		newest = max(newest, c.start)
	}
	counts := make([]count, 0, len(t.counts)+1)
	found := false
	for _, c := range t.counts {
		if c.start <= newest-window.Microseconds() {
			continue
		}
		if c.start == start {
			c.n++
			found = true
		}
		counts = append(counts, c)
	}
	if !found {
		counts = append(counts, count{start, 1})
	}
	t.counts = counts
	return t
}

// sum returns the number of events in the window that ends with the event.
func (t track) sum(at int64, window time.Duration) int64 {
	var n int64
	for _, c := range t.counts {
		if c.start <= at && c.start > at-at%step-window.Microseconds() {
			n += c.n
		}
	}
	return n
}

func (l *Local) alert(rule *Rule, c *Case, columns *event.Columns, row int, value, threshold float64) Alert {
	a := Alert{
		Rule: rule.Name, Case: c.Name, Scope: ScopeLocal, State: Firing, Severity: rule.Severity, Labels: rule.Labels,
		Key: map[string]string{}, Value: value, Threshold: threshold,
		FiredAt: time.UnixMicro(columns.Times[row]).UTC(), ShardID: l.shardID,
	}
	replace := []string{
		"{value}", strconv.FormatFloat(value, 'f', -1, 64),
		"{threshold}", strconv.FormatFloat(threshold, 'f', -1, 64),
		"{window}", formatWindow(rule.Window),
	}
	for _, part := range c.Key {
		text := clip(cellText(columns, part, row))
		a.Key[part.Name] = text
		replace = append(replace, "{"+part.Name+"}", text)
	}
	for i, name := range c.Details {
		attribute := c.Inputs[0].Details[i]
		text := clip(cellText(columns, KeyPart{Kind: columns.Schema.Attributes[attribute].Kind, Attribute: attribute}, row))
		a.detail(name, text)
		replace = append(replace, "{"+name+"}", text)
	}
	a.Stakeholder = c.Stakeholder.of(&a)
	a.Message = strings.NewReplacer(replace...).Replace(c.Message)
	a.ID = id(a.Rule, a.Case, string(a.Scope), l.shardID, keyText(c, columns, row), strconv.FormatInt(columns.Times[row], 10))
	return a
}

// id hashes what makes an alert the one it is.
func id(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// keyText joins the key's values. Texts of events hold no NUL byte, so that
// different keys never join to the same text.
func keyText(c *Case, columns *event.Columns, row int) string {
	var b strings.Builder
	for _, part := range c.Key {
		b.WriteByte(0)
		b.WriteString(cellText(columns, part, row))
	}
	return b.String()
}

func cellText(columns *event.Columns, part KeyPart, row int) string {
	cell := columns.Cells[part.Attribute][row]
	switch part.Kind {
	case event.String:
		return columns.Dict.Text(cell)
	case event.Float:
		return strconv.FormatFloat(cell.Float(), 'g', -1, 64)
	case event.Bool:
		return strconv.FormatBool(cell != 0)
	case event.Time:
		return time.UnixMicro(int64(cell)).UTC().Format(time.RFC3339Nano)
	case event.Int:
	}
	return strconv.FormatInt(int64(cell), 10)
}

// maxText is how many bytes of a key's text an alert shows: whatever events
// hold, the alert must fit into one message.
const maxText = 1024

// clip shortens a text to maxText bytes and says so by an ellipsis.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

func number(columns *event.Columns, attribute, row int) float64 {
	cell := columns.Cells[attribute][row]
	if columns.Schema.Attributes[attribute].Kind == event.Float {
		return cell.Float()
	}
	return float64(cell)
}

// prune forgets keys that can no longer matter to an event near the newest.
func (l *Local) prune() {
	var longest time.Duration
	for _, rule := range l.rules {
		for i := range rule.Cases {
			by := rule.by(&rule.Cases[i])
			longest = max(longest, by.Window, by.Suppress)
		}
	}
	old := l.newest - longest.Microseconds() - step
	for key, t := range l.tracks {
		if t.newest() < old {
			delete(l.tracks, key)
		}
	}
}

// newest is the last event time of the key that matters.
func (t track) newest() (newest int64) {
	for _, fired := range t.fired {
		newest = max(newest, fired)
	}
	for _, c := range t.counts {
		newest = max(newest, c.start)
	}
	return newest
}

// formatWindow is how a rule's window reads in messages: 1h, not 1h0m0s.
func formatWindow(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
