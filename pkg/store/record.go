package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

// record is what weir.aggregation knows of one version of an aggregation: what
// its tables were made for.
type record struct {
	Name    string `json:"-"`
	Version int    `json:"-"`
	Current bool   `json:"-"`

	Keys      []recordKey       `json:"keys"`
	Measures  []recordMeasure   `json:"measures"`
	Levels    []string          `json:"every"`
	Zone      string            `json:"zone"`
	Retention map[string]string `json:"retention,omitempty"` // by level; none: for ever
	ByShard   bool              `json:"partition_by_id"`

	// Of which events: the streams, sorted, and the condition on them.
	From  []string `json:"from"`
	Where string   `json:"where,omitempty"`
	// Undefined: an apply has come whose definitions lack it.
	Undefined bool `json:"undefined,omitempty"`
}

type recordKey struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

type recordMeasure struct {
	Name    string  `json:"name"`
	Op      string  `json:"op"`
	Arg     string  `json:"arg,omitempty"`
	Kind    string  `json:"kind,omitempty"`
	Percent float64 `json:"percent,omitempty"`
	Shares  string  `json:"shares,omitempty"`
	// Idle: it is not defined any more, but its column is still there.
	Idle bool `json:"idle,omitempty"`
}

func recordOf(def *aggregation.Definition) record {
	r := record{Name: def.Name, Version: max(1, def.Version), Current: true, Zone: def.Zone.String(), ByShard: def.PartitionByID, Retention: map[string]string{}}
	r.Where = def.Filter
	for _, input := range def.Inputs {
		r.From = append(r.From, input.Stream)
	}
	slices.Sort(r.From)
	for _, k := range def.Keys {
		r.Keys = append(r.Keys, recordKey{k.Name, k.Kind.String()})
	}
	for _, m := range def.Measures {
		out := recordMeasure{Name: m.Name, Op: m.Op.String(), Arg: m.Arg, Percent: m.Percent, Shares: m.Shares}
		if m.Op != aggregation.Count {
			out.Kind = m.ArgKind.String()
		}
		r.Measures = append(r.Measures, out)
	}
	for _, g := range def.Granularities {
		r.Levels = append(r.Levels, g.String())
		if keep := def.Retention[g]; keep != aggregation.Forever {
			r.Retention[g.String()] = keep.String()
		}
	}
	return r
}

// definition returns what can be asked for and kept of the record's tables; it
// has no inputs.
func (r *record) definition() (*aggregation.Definition, error) {
	def := &aggregation.Definition{Name: r.Name, Version: r.Version, PartitionByID: r.ByShard, Filter: r.Where, Retention: map[aggregation.Granularity]time.Duration{}}
	var err error
	if def.Zone, err = time.LoadLocation(r.Zone); err != nil {
		return nil, err
	}
	for _, k := range r.Keys {
		kind, ok := event.ParseKind(k.Kind)
		if !ok {
			return nil, fmt.Errorf("unknown kind %q", k.Kind)
		}
		def.Keys = append(def.Keys, aggregation.Key{Name: k.Name, Kind: kind})
	}
	for _, m := range r.fed() {
		op, ok := aggregation.ParseOp(m.Op)
		kind, _ := event.ParseKind(m.Kind) // a count has none
		if !ok {
			return nil, fmt.Errorf("unknown measure %q", m.Op)
		}
		def.Measures = append(def.Measures, aggregation.Measure{Name: m.Name, Op: op, Arg: m.Arg, ArgKind: kind, Percent: m.Percent, Shares: m.Shares})
	}
	for _, text := range r.Levels {
		level, err := aggregation.ParseGranularity(text)
		if err != nil {
			return nil, err
		}
		def.Granularities = append(def.Granularities, level)
		if keep, limited := r.Retention[text]; limited {
			if def.Retention[level], err = time.ParseDuration(keep); err != nil {
				return nil, err
			}
		}
	}
	return def, nil
}

// whole is definition with the measures that are not defined any more but have
// a column: all that a row can hold.
func (r *record) whole() (*aggregation.Definition, error) {
	all := *r
	all.Measures = slices.Clone(r.Measures)
	for i := range all.Measures {
		all.Measures[i].Idle = false
	}
	return all.definition()
}

// whole returns the definition with all measures that rows can hold, also those
// that this process does not know of yet, or any more. They stay as they are
// until the transaction ends.
func (tx *Tx) whole(ctx context.Context, def *aggregation.Definition) (*aggregation.Definition, error) {
	if _, err := tx.tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock_shared(hashtextextended('weir.apply', 0))`); err != nil {
		return nil, fmt.Errorf("wait for apply: %w", err)
	}
	now, err := readRecords(ctx, tx.tx, "WHERE id = $1", def.ID())
	if err != nil {
		return nil, err
	}
	if len(now) == 0 {
		return nil, fmt.Errorf("aggregation %s: %w", def.ID(), errDropped)
	}
	return now[0].whole()
}

// fed lists the measures that are defined.
func (r *record) fed() []recordMeasure {
	return slices.DeleteFunc(slices.Clone(r.Measures), func(m recordMeasure) bool { return m.Idle })
}

// measure finds a measure by the name of its column; nil if there is none.
func (r *record) measure(name string) *recordMeasure {
	for i := range r.Measures {
		if ident(r.Measures[i].Name) == ident(name) {
			return &r.Measures[i]
		}
	}
	return nil
}

// versioned names one of several versions: Calls@1.
func (r *record) versioned() string {
	return (&aggregation.Definition{Name: r.Name, Version: r.Version}).Versioned()
}

// same reports whether both are stored, and computed, alike.
func (m recordMeasure) same(o recordMeasure) bool {
	return m.Op == o.Op && m.Kind == o.Kind && m.Percent == o.Percent && ident(m.Shares) == ident(o.Shares) && sameText(m.Arg, o.Arg)
}

// sameText reports whether two expressions differ only in space that means
// nothing.
func sameText(a, b string) bool { return a == b || tight(a) == tight(b) }

// tight is an expression without the space between its words and signs, save
// where two of them would become one. Texts in quotes stay as they are.
func tight(text string) string {
	word := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
	sign := func(r rune) bool { return strings.ContainsRune("+-*/%<>=!&|?:.^", r) }
	var b strings.Builder
	var quote, last rune
	var space, escaped bool
	for _, r := range text {
		switch {
		case quote != 0:
			if r == quote && !escaped {
				quote = 0
			}
			escaped = r == '\\' && !escaped
		case unicode.IsSpace(r):
			space = true
			continue
		case strings.ContainsRune("\"'`", r):
			quote = r
		}
		if space && (word(last) && word(r) || sign(last) && sign(r)) {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		space, last = false, r
	}
	return b.String()
}

// sameEvents reports whether the two take the same events, and cut them into
// the same groups.
func (r *record) sameEvents(o *record) bool {
	return r.Zone == o.Zone && slices.Equal(r.From, o.From) && sameText(r.Where, o.Where) &&
		slices.EqualFunc(r.Keys, o.Keys, func(a, b recordKey) bool {
			return ident(a.Name) == ident(b.Name) && a.Kind == b.Kind
		})
}

// serves reports whether the tables of the record are just what the wanted
// definition needs: nothing has to be added, and nothing is filled that it
// does not have.
func (r *record) serves(want *record) bool {
	if !slices.Equal(r.Levels, want.Levels) || !r.holds(want) || len(r.fed()) != len(want.Measures) {
		return false
	}
	return !slices.ContainsFunc(want.Measures, func(m recordMeasure) bool { return r.measure(m.Name).Idle })
}

// loses reports whether levels of the record are not wanted any more.
func (r *record) loses(want *record) bool {
	return slices.ContainsFunc(r.Levels, func(level string) bool { return !slices.Contains(want.Levels, level) })
}

// holds reports whether a worker or reader with the wanted definition can use
// the tables of the record: all that it writes or reads has its place there.
func (r *record) holds(want *record) bool {
	if !r.sameEvents(want) || !r.holdsLevels(want) {
		return false
	}
	for _, m := range want.Measures {
		if have := r.measure(m.Name); have == nil || !have.same(m) {
			return false
		}
	}
	return true
}

// holdsLevels reports whether the record has the wanted levels, and each of them
// is filled from the same one: coarser ones may be missing, none in between.
func (r *record) holdsLevels(want *record) bool {
	have, err := r.definition()
	if err != nil {
		return false
	}
	other, err := want.definition()
	if err != nil || have.Finest() != other.Finest() {
		return false
	}
	for _, level := range other.Granularities {
		theirs, ok := other.Parent(level)
		if ours, kept := have.Parent(level); !have.Keeps(level) || ok != kept || ours != theirs {
			return false
		}
	}
	return true
}

// records reads what has tables, by name and version; nothing before the first
// migration.
func records(ctx context.Context, q querier) (all []record, err error) {
	if there, err := exists(ctx, q, "weir.aggregation"); err != nil || !there {
		return nil, err
	}
	return readRecords(ctx, q, "ORDER BY name, version")
}

// readRecords reads those that the rest of the query selects.
func readRecords(ctx context.Context, q querier, rest string, args ...any) (all []record, err error) {
	rows, err := q.QueryContext(ctx, `SELECT name, version, current, definition FROM weir.aggregation `+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("read the applied definitions: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var r record
		var text []byte
		err := rows.Scan(&r.Name, &r.Version, &r.Current, &text)
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("read the applied definitions: %w", err)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// querier is a pool or one transaction of it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// find returns the record that fits, the current one before others and later
// versions before earlier ones; nil if none does.
func find(all []record, fits func(*record) bool) (best *record) {
	for i := range all {
		r := &all[i]
		if fits(r) && (best == nil || !best.Current && r.Version > best.Version || r.Current) {
			best = r
		}
	}
	return best
}

// recordFor returns the record of the definition's own version; nil if its tables
// were dropped.
func recordFor(all []record, def *aggregation.Definition) *record {
	return find(all, func(r *record) bool { return r.Name == def.Name && r.Version == max(1, def.Version) })
}

// differences says to a person how a definition changed.
func differences(have, want *record) string {
	var texts []string
	note := func(what, a, b string) {
		if a != b {
			texts = append(texts, fmt.Sprintf("%s %s, was %s", what, b, a))
		}
	}
	keys := func(r *record) string {
		var names []string
		for _, k := range r.Keys {
			names = append(names, k.Name+" "+k.Kind)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	note("group by", keys(have), keys(want))
	note("every", strings.Join(have.Levels, ", "), strings.Join(want.Levels, ", "))
	note("zone", have.Zone, want.Zone)
	note("from", strings.Join(have.From, ", "), strings.Join(want.From, ", "))
	if !sameText(have.Where, want.Where) {
		note("where", cmp.Or(have.Where, "all"), cmp.Or(want.Where, "all"))
	}
	for _, m := range want.Measures {
		if old := have.measure(m.Name); old != nil && !old.same(m) {
			a, b := old.text(), m.text()
			if a == b {
				a, b = a+" ("+old.Arg+")", b+" ("+m.Arg+")"
			}
			note("measure "+m.Name, a, b)
		}
	}
	if len(texts) == 0 {
		return fmt.Sprintf("they hold at most %d measures, with those that are not filled any more", aggregation.MaxMeasures)
	}
	return strings.Join(texts, "; ")
}

func (m recordMeasure) text() string {
	text := m.Op
	if m.Percent != 0 {
		text = fmt.Sprintf("%s %g", text, m.Percent)
	}
	if m.Kind != "" {
		text += " of " + m.Kind
	}
	if m.Shares != "" {
		text += " by the sketch of " + m.Shares
	}
	return text
}
