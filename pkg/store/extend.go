package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// extend plans how the tables that are there come to serve the definition, if
// they can. Workers and readers with the definition they had go on while and
// after it happens: what is added may be absent, what is removed may stay.
func (p *planner) extend(def *aggregation.Definition, have, want *record) (done bool, err error) {
	versioned := *def
	versioned.Version = have.Version
	if !have.sameGroups(want) || !p.levelsFit(&versioned, have) {
		return false, nil
	}
	for _, m := range want.Measures {
		if old := have.measure(m.Name); old != nil && !old.same(m) {
			return false, nil
		}
	}
	merged := *want
	merged.Version = have.Version
	e := extension{def: p.plan(def, have.Version), have: have, lz4: p.lz4, drop: p.mayDrop(def.Name), views: p.dropped}
	for _, m := range have.Measures {
		if e.drop || slices.ContainsFunc(want.Measures, func(w recordMeasure) bool { return ident(w.Name) == ident(m.Name) }) {
			continue
		}
		m.Idle = true
		merged.Measures = append(merged.Measures, m)
	}
	e.measures(want)
	if err := e.levels(want); err != nil {
		return false, err
	}
	e.columns()
	p.add(def.Name, fmt.Sprintf("change aggregation %s: %s", def.Name, strings.Join(e.texts, "; ")), append(e.sql, merged.save()...)...)
	return true, nil
}

// levelsFit reports whether the wanted levels can be kept with the tables that
// are there: the finest one, which is packed, is the same, and whatever was
// folded from a level still is. (What a new level in between would be given
// late, its children have already.)
func (p *planner) levelsFit(def *aggregation.Definition, have *record) bool {
	old, err := have.definition()
	if err != nil || def.Finest() != old.Finest() {
		return false
	}
	for _, level := range def.Granularities {
		if parent, ok := def.Parent(level); ok && old.Keeps(level) && !old.Keeps(parent) {
			return false
		}
	}
	return true
}

// extension collects the statements that change the tables of one aggregation.
type extension struct {
	def   *aggregation.Definition
	have  *record
	lz4   bool
	drop  bool
	texts []string
	sql   []string
	views map[string]bool // that are dropped, to be made anew after all, by the names of their tables
}

func (e *extension) dropView(level aggregation.Granularity) {
	e.sql = append(e.sql, dropView(e.def, level))
	e.views[TableName(e.def, level)] = true
}

// measures says what becomes of them; their columns come after.
func (e *extension) measures(want *record) {
	for _, m := range want.Measures {
		switch old := e.have.measure(m.Name); {
		case old == nil:
			e.texts = append(e.texts, fmt.Sprintf("add measure %s (%s), which rows written so far do not have", m.Name, m.text()))
		case old.Idle:
			e.texts = append(e.texts, fmt.Sprintf("fill measure %s again", m.Name))
		}
	}
	for _, m := range e.have.Measures {
		gone := want.measure(m.Name) == nil
		switch {
		case gone && e.drop:
			e.texts = append(e.texts, fmt.Sprintf("DROP measure %s with its values", m.Name))
		case gone && !m.Idle:
			e.texts = append(e.texts, fmt.Sprintf("fill measure %s no more; what it has stays (`weir apply --destroy=%s` drops it)", m.Name, e.def.Name))
		}
	}
}

func (e *extension) levels(want *record) error {
	for _, level := range e.def.Granularities {
		if !slices.Contains(e.have.Levels, level.String()) {
			e.texts = append(e.texts, fmt.Sprintf("add level %s, filled from what finer ones hold", level))
			e.sql = append(e.sql, createTable(e.def, level, e.lz4, true))
		}
	}
	for _, level := range e.have.Levels {
		if slices.Contains(want.Levels, level) {
			continue
		}
		if !e.drop {
			return fmt.Errorf("level %s of aggregation %s is not defined any more, and removing it drops its rows: say so with `weir apply --destroy=%[2]s`", level, e.def.Name)
		}
		g, err := aggregation.ParseGranularity(level)
		if err != nil {
			return err
		}
		e.texts = append(e.texts, fmt.Sprintf("DROP level %s with its rows", level))
		for _, coarser := range e.def.Granularities { // their views read it
			if coarser > g {
				e.dropView(coarser)
			}
		}
		e.dropView(g)
		e.sql = append(append(e.sql, "DROP TABLE "+tableOf(e.def, g)), forget(e.def, level)...)
	}
	return nil
}

// columns gives the levels that stay the columns they need.
func (e *extension) columns() {
	old, err := e.have.whole()
	if err != nil {
		panic(err) // it was read before
	}
	has := func(columns []column, c column) bool {
		return slices.ContainsFunc(columns, func(o column) bool { return o.name == c.name })
	}
	before, after := columnsOf(old), columnsOf(e.def)
	for _, level := range e.def.Granularities {
		if !slices.Contains(e.have.Levels, level.String()) {
			continue
		}
		var steps []string
		for _, c := range after {
			if !has(before, c) {
				steps = append(steps, addColumn(e.def, level, c, e.lz4)...)
			}
		}
		for _, c := range before {
			switch {
			case has(after, c):
			case e.drop:
				e.dropView(level)
				steps = append(steps, "DROP COLUMN "+pq.QuoteIdentifier(c.name))
			default:
				steps = append(steps, "ALTER COLUMN "+pq.QuoteIdentifier(c.name)+" DROP NOT NULL")
			}
		}
		if len(steps) > 0 {
			e.sql = append(e.sql, "ALTER TABLE "+tableOf(e.def, level)+" "+strings.Join(steps, ", "))
		}
	}
}

// addColumn returns the steps that add a column to a table that has rows, none
// of which is looked at.
func addColumn(def *aggregation.Definition, level aggregation.Granularity, c column, lz4 bool) []string {
	packed := level == def.Finest()
	steps := []string{"ADD COLUMN " + pq.QuoteIdentifier(c.name) + " " + c.storedType(packed, lz4)}
	if packed {
		steps = append(steps, "ADD "+parallel(def, c)+" NOT VALID")
	}
	return steps
}
