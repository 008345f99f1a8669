package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"weir/pkg/aggregation"
)

// Refused says, one sentence each, why a plan cannot be carried out.
type Refused []string

// Error gives each sentence a line.
func (r Refused) Error() string { return strings.Join(r, "\n") }

func (p *planner) refuse(format string, args ...any) {
	p.refused = append(p.refused, fmt.Sprintf(format, args...))
}

// guard finds what is in the way of a change: a query for one text, which is
// empty where nothing is, and what to say with it.
type guard struct{ query, refusal string }

// unknownToWorkers is the guard of what is dropped as a whole: workers read all
// that has tables when they start, and roll it up and purge it from then on.
func unknownToWorkers(what string) guard {
	return guard{
		query: `SELECT coalesce(string_agg(shard_id || ' (' || owner || ')', ', ' ORDER BY shard_id), '') FROM weir.shard WHERE ` + liveShard,
		refusal: what + " is to be dropped, but live workers roll it up: %s; stop them, run this again, and start them with the new definitions" +
			" (nothing is lost meanwhile: the stream keeps what comes)",
	}
}

// unusedByWorkers is the guard of what is dropped of an aggregation.
func unusedByWorkers(def *aggregation.Definition) guard {
	g := unknownToWorkers("a part of aggregation " + def.ID())
	g.query += ` AND ` + pq.QuoteLiteral(def.ID()) + ` = ANY (aggregations)`
	g.refusal = strings.Replace(g.refusal, "roll it up", "fold into it", 1)
	return g
}

// guarded lists what is in the way of the changes.
func guarded(ctx context.Context, q querier, changes []Change) (refused Refused, err error) {
	for _, change := range changes {
		for _, g := range change.guards {
			var found string
			if err := q.QueryRowContext(ctx, g.query).Scan(&found); err != nil {
				return nil, fmt.Errorf("%s: look for what is in the way: %w", change.Text, err)
			}
			if found != "" {
				refused = append(refused, fmt.Sprintf(g.refusal, found))
			}
		}
	}
	return refused, nil
}

// holdGuards asks the guards once more, and keeps their answers as they are: no
// shard is leased and nothing is flushed until the transaction ends.
func (tx *Tx) holdGuards(ctx context.Context, changes []Change) error {
	if !slices.ContainsFunc(changes, func(c Change) bool { return len(c.guards) > 0 }) {
		return nil
	}
	if _, err := tx.tx.ExecContext(ctx, `LOCK TABLE weir.shard IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("wait for flushes: %w", err)
	}
	refused, err := guarded(ctx, tx.tx, changes)
	if err == nil && len(refused) > 0 {
		err = refused
	}
	return err
}

// explainDependents says what to do where Postgres refuses because others have
// built upon a view.
func explainDependents(err error) error {
	var refused *pq.Error
	if !hasCode(err, pqerror.DependentObjectsStillExist) || !errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("others have built upon what has to change (%s): drop that, run `weir apply` again, and make it anew: %w",
		strings.ReplaceAll(refused.Detail, "\n", ", "), err)
}

// differsInCase refuses a name that the database has in another case: in SQL
// both are the same.
func (p *planner) differsInCase(def *aggregation.Definition) bool {
	other := find(p.records, func(r *record) bool { return r.Name != def.Name && ident(r.Name) == ident(def.Name) })
	if other == nil {
		return false
	}
	p.refuse("aggregation %s: the database has it as %s, and names that differ only in case are the same table: write %[2]s, or take another name", def.Name, other.Name)
	p.left[other.Name], p.left[def.Name] = true, true
	return true
}

// mayDrop reports whether what is removed under the name may be dropped.
func (p *planner) mayDrop(names ...string) bool {
	return slices.ContainsFunc(p.destroy, func(d string) bool {
		return d == Everything || slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(d, name) })
	})
}

// removed tells of what is not defined any more, and drops it where that is
// wanted.
func (p *planner) removed(defs []*aggregation.Definition) {
	for i := range p.records {
		r := &p.records[i]
		def, err := r.definition()
		if err != nil || p.left[r.Name] || p.uses(r) {
			continue // also what is of a later version of the program: not ours to drop
		}
		names, name := []string{def.Versioned()}, def.Versioned()
		defined := slices.ContainsFunc(defs, func(d *aggregation.Definition) bool { return d.Name == r.Name })
		if !defined {
			names = append(names, r.Name)
		}
		if alone := !slices.ContainsFunc(p.records, func(o record) bool { return o.Name == r.Name && o.Version != r.Version }); alone {
			name = def.ID()
		}
		p.droppable = append(p.droppable, names...)
		switch {
		case p.mayDrop(names...):
			p.drop(r, def, name)
		case !defined:
			p.undefined(r, name)
		case !slices.ContainsFunc(p.changes, func(c Change) bool { return c.of == r.Name && c.creates != "" }): // which tells
			p.changes = append(p.changes, Change{Note: true, Text: fmt.Sprintf(
				"version %d of aggregation %s is there too: its rows can be asked for as %s (`weir apply --destroy=%[3]s` drops them)", r.Version, r.Name, name)})
		}
	}
	for _, name := range p.destroy {
		if name != Everything && !slices.ContainsFunc(p.droppable, func(d string) bool { return strings.EqualFold(d, name) }) {
			p.refuse("--destroy=%s: %s", name, p.nothingToDrop(name))
		}
	}
}

// nothingToDrop says why a name that --destroy names drops nothing, and what
// may have been meant.
func (p *planner) nothingToDrop(name string) string {
	text := "the database has no such aggregation"
	if r := find(p.records, func(r *record) bool { return strings.EqualFold(r.Name, name) || strings.EqualFold(r.versioned(), name) }); r != nil {
		text = "all that the database has of it is defined"
	}
	if len(p.droppable) == 0 {
		return text + ", and there is nothing else to drop"
	}
	slices.Sort(p.droppable)
	return text + "; did you mean " + strings.Join(slices.Compact(p.droppable), " or ") + "?"
}

// undefined notes that the aggregation is not defined, for the day when it is
// again.
func (p *planner) undefined(r *record, name string) {
	note := Change{Note: true, Text: fmt.Sprintf(
		"aggregation %s is not defined any more: its rows stay and can be asked for (`weir apply --destroy=%[1]s` drops them)", name)}
	if r.Current && !r.Undefined {
		marked := *r
		marked.Undefined = true
		note.sql = []string{fmt.Sprintf(`UPDATE weir.aggregation SET definition = %s WHERE name = %s AND version = %d`,
			pq.QuoteLiteral(marked.text()), pq.QuoteLiteral(r.Name), r.Version)}
	}
	p.changes = append(p.changes, note)
}

// uses reports whether the record's tables are those of a definition after the
// plan.
func (p *planner) uses(r *record) bool {
	return slices.ContainsFunc(p.planned, func(d *aggregation.Definition) bool { return d.Name == r.Name && d.Version == r.Version })
}

func (p *planner) drop(r *record, def *aggregation.Definition, name string) {
	var sql []string
	for _, level := range def.Granularities {
		sql = append(sql, "DROP TABLE "+tableOf(def, level))
	}
	sql = append(sql, forget(def, "")...)
	id := pq.QuoteLiteral(def.ID())
	sql = append(sql,
		fmt.Sprintf(`DELETE FROM weir.aggregation WHERE name = %s AND version = %d`, pq.QuoteLiteral(r.Name), r.Version),
		// Whoever lost the lease and has not noticed must not flush without it.
		fmt.Sprintf(`UPDATE weir.shard SET epoch = epoch + %[2]s, aggregations = array_remove(aggregations, %[1]s) WHERE %[1]s = ANY (aggregations)`, id, epochStep))
	p.remake[r.Name] = true
	p.gone = append(p.gone, r)
	p.changes = append(p.changes, Change{
		Text: fmt.Sprintf("DROP aggregation %s with all its rows", name), of: r.Name, sql: sql,
		guards: []guard{unknownToWorkers("aggregation " + name)},
	})
}

// forget removes what is known of a level's rows, or of all levels', then with
// what they must add up to.
func forget(def *aggregation.Definition, level string) []string {
	where := " WHERE aggregation = " + pq.QuoteLiteral(def.ID())
	if level != "" {
		where += " AND level = " + pq.QuoteLiteral(level)
	}
	sql := []string{"DELETE FROM weir.watermark" + where, "DELETE FROM weir.compacted" + where, "DELETE FROM weir.purged" + where}
	if level == "" {
		sql = append(sql, "DELETE FROM weir.control"+where)
	}
	return sql
}
