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
func (p *planner) extend(def *aggregation.Definition, have, want *record) bool {
	versioned := *def
	versioned.Version = have.Version
	if !have.sameEvents(want) || !p.levelsFit(&versioned, have) {
		return false
	}
	merged := *want
	merged.Version = have.Version
	for _, m := range want.Measures {
		if old := have.measure(m.Name); old != nil && !old.same(m) {
			return false
		}
	}
	for _, m := range have.Measures {
		if want.measure(m.Name) == nil && !p.mayDrop(def.Name) {
			m.Idle = true
			merged.Measures = append(merged.Measures, m)
		}
	}
	old, err := have.whole()
	if err != nil || len(merged.Measures) > aggregation.MaxMeasures {
		return false
	}
	whole, err := merged.whole()
	if err != nil {
		return false
	}
	e := extension{def: p.plan(def, have.Version), whole: whole, old: old, have: have, lz4: p.lz4, drop: p.mayDrop(def.Name), texts: have.comeback()}
	e.measures(want)
	e.levels()
	e.columns()
	p.refused = append(p.refused, e.refused...)
	if e.droppable {
		p.droppable = append(p.droppable, def.Name)
	}
	if e.drops {
		p.remake[def.Name] = true
		e.guards = append(e.guards, unusedByWorkers(e.def))
		e.sql = append(e.sql, fmt.Sprintf(`UPDATE weir.shard SET epoch = epoch + %s WHERE %s = ANY (aggregations)`, epochStep, pq.QuoteLiteral(e.def.ID())))
	}
	if len(e.texts) > 0 {
		p.add(def.Name, fmt.Sprintf("change aggregation %s: %s", def.Name, strings.Join(e.texts, "; ")), append(e.sql, merged.save()...)...)
		p.changes[len(p.changes)-1].guards = e.guards
	}
	return true
}

// levelsFit reports whether the wanted levels can be kept with the tables that
// are there: the finest one is the same, and whatever was
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
	def        *aggregation.Definition
	whole, old *aggregation.Definition // with all columns that the tables then have, and that they have now
	have       *record
	lz4, drop  bool
	droppable  bool // there is what may be dropped
	drops      bool // and it is
	texts      []string
	sql        []string
	guards     []guard
	refused    Refused
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
		if want.measure(m.Name) != nil {
			continue
		}
		e.droppable = true
		switch {
		case e.drop:
			e.drops = true
			e.texts = append(e.texts, fmt.Sprintf("DROP measure %s with its values", m.Name))
		case !m.Idle:
			e.texts = append(e.texts, fmt.Sprintf("fill measure %s no more; what it has stays (`weir apply --destroy=%s` drops it)", m.Name, e.def.Name))
		}
	}
}

func (e *extension) levels() {
	for _, level := range e.def.Granularities {
		if !e.old.Keeps(level) {
			e.texts = append(e.texts, fmt.Sprintf("add level %s, filled from what finer ones hold", level))
			e.sql = append(e.sql, forget(e.def, level.String())...) // of a former one
			e.sql = append(e.sql, createTable(e.whole, level, e.lz4, true))
			if parent, ok := e.def.Parent(level); ok { // what that has lost, this one will never have
				e.sql = append(e.sql, fmt.Sprintf(`INSERT INTO weir.purged (aggregation, level, before) SELECT aggregation, %s, before FROM weir.purged WHERE aggregation = %s AND level = %s`,
					pq.QuoteLiteral(level.String()), pq.QuoteLiteral(e.def.ID()), pq.QuoteLiteral(parent.String())))
			}
		}
	}
	var gone []aggregation.Granularity
	for _, level := range e.old.Granularities {
		if !e.def.Keeps(level) {
			gone = append(gone, level)
		}
	}
	if len(gone) == 0 {
		return
	}
	e.droppable = true
	for _, level := range gone {
		if !e.drop {
			e.refused = append(e.refused, fmt.Sprintf(
				"level %s of aggregation %s is not defined any more, and removing it drops its rows: say so with `weir apply --destroy=%[2]s`", level, e.def.Name))
			continue
		}
		e.texts = append(e.texts, fmt.Sprintf("DROP level %s with its rows", level))
	}
	if !e.drop {
		return
	}
	e.drops = true
	e.reparent()
	for _, level := range gone {
		e.sql = append(append(e.sql, "DROP TABLE "+tableOf(e.def, level)), forget(e.def, level.String())...)
	}
}

// reparent lets the levels that were filled from one that is dropped be filled
// from a finer one. They must have all rows of the level that is dropped; then
// they have what that one has of the finer one, and its watermark is theirs.
func (e *extension) reparent() {
	id := pq.QuoteLiteral(e.def.ID())
	for _, level := range e.def.Granularities {
		parent, ok := e.old.Parent(level)
		if !ok || !e.old.Keeps(level) || e.def.Keeps(parent) {
			continue
		}
		for child := level; ok && !e.def.Keeps(parent); parent, ok = e.old.Parent(child) {
			e.guards = append(e.guards, guard{
				query: fmt.Sprintf(`SELECT coalesce(string_agg(DISTINCT t.shard_id, ', '), '') FROM %s t WHERE t.batch_no > coalesce(
					(SELECT batch_no FROM weir.watermark w WHERE w.shard_id = t.shard_id AND w.aggregation = %s AND w.level = %s), `+noBatchSQL+`)`,
					tableOf(e.def, parent), id, pq.QuoteLiteral(child.String())),
				refusal: fmt.Sprintf("level %s of aggregation %s is to be dropped, but %s lack rows of it, of shards: %%s; start workers, which roll them up within %s, stop them, and run this again",
					parent, e.def.Name, child, "half an hour or when they are stopped"),
			})
			e.sql = append(e.sql, fmt.Sprintf(`INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no)
				SELECT shard_id, aggregation, %s, batch_no FROM weir.watermark WHERE aggregation = %s AND level = %s
				ON CONFLICT (aggregation, level, shard_id) DO UPDATE SET batch_no = excluded.batch_no`,
				pq.QuoteLiteral(level.String()), id, pq.QuoteLiteral(parent.String())))
			child = parent
		}
	}
}

// columns gives the levels that stay the columns they need.
func (e *extension) columns() {
	has := func(columns []column, c column) bool {
		return slices.ContainsFunc(columns, func(o column) bool { return o.name == c.name })
	}
	before, fed, after := columnsOf(e.old), columnsOf(e.def), columnsOf(e.whole)
	for _, level := range e.def.Granularities {
		if !e.old.Keeps(level) {
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
			case has(fed, c):
			case !has(after, c):
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
	steps := []string{"ADD COLUMN " + pq.QuoteIdentifier(c.name) + " " + c.storedType(def.Packed(level), lz4)}
	if def.Packed(level) { // as weir.plain_statistics
		steps = append(steps, "ALTER COLUMN "+pq.QuoteIdentifier(c.name)+" SET STATISTICS 0")
	}
	return steps
}
