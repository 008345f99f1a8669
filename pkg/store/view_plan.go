package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"

	"weir/pkg/aggregation"
)

// shown is one version of an aggregation that has views after the plan.
type shown struct {
	def     *aggregation.Definition
	current bool
	// Not defined any more: what is there of it stays as it is.
	keep bool
}

// shows lists the versions of the named aggregation that have views after the
// plan.
func (p *planner) shows(name string) (all []shown) {
	defined := false
	for _, def := range p.planned {
		if def.Name == name {
			all, defined = append(all, shown{def: def, current: true}), true
		}
	}
	for i := range p.records {
		r := &p.records[i]
		def, err := r.definition()
		if r.Name != name || err != nil || p.uses(r) || slices.Contains(p.gone, r) {
			continue
		}
		current := r.Current && !defined
		all = append(all, shown{def, current, current})
	}
	return all
}

// views plans what has to be done to the views: they are made, made anew where
// this program makes them otherwise or another version is current, or dropped.
// It is done with the tables where these change: what is in the way before, the
// rest after.
func (p *planner) views(made map[string]madeView) {
	var names []string
	for _, def := range p.planned {
		names = append(names, def.Name)
	}
	for i := range p.records {
		if name := p.records[i].Name; !slices.Contains(names, name) && !p.left[name] {
			names = append(names, name)
		}
	}
	for _, name := range names {
		before, after, texts := p.viewsOf(name, made)
		if len(before)+len(after) == 0 {
			continue
		}
		of := func(c Change) bool { return c.of == name && !c.Note }
		first := slices.IndexFunc(p.changes, of)
		if first < 0 {
			p.add(name, fmt.Sprintf("make views of %s (weir_view.%s_{%s})", name, ident(name), strings.Join(texts, ",")), append(before, after...)...)
			continue
		}
		last := first
		for i := first; i < len(p.changes); i++ {
			if of(p.changes[i]) {
				last = i
			}
		}
		p.changes[first].sql = append(before, p.changes[first].sql...)
		p.changes[last].sql = append(p.changes[last].sql, after...)
	}
}

// viewsOf returns the statements for the views of one aggregation, before its
// tables change and after it, and which levels are made.
func (p *planner) viewsOf(name string, made map[string]madeView) (before, after, levels []string) {
	wanted := map[string]bool{}
	for _, s := range p.shows(name) {
		for _, level := range s.def.Granularities {
			view := s.def.View(level, s.current)
			wanted[view] = true
			have, there := made[view]
			statements, hash := createView(s.def, level, s.current)
			anew := p.remake[name] || !there
			if !anew && (s.keep || have.hash == hash) {
				continue
			}
			levels = append(levels, strings.TrimPrefix(view, ident(name)+"_"))
			after = append(after, statements)
			if !anew {
				continue // replace_view keeps its rights
			}
			if !there { // who may read the current version may go on reading this one
				have = made[s.def.View(level, true)]
			}
			for _, grant := range have.grants {
				after = append(after, fmt.Sprintf(grant, inViews(view)))
			}
		}
	}
	for i := range p.records {
		def, err := p.records[i].definition()
		if p.records[i].Name != name || err != nil {
			continue
		}
		for _, level := range def.Granularities {
			for _, current := range []bool{true, false} {
				view := def.View(level, current)
				if _, there := made[view]; there && (p.remake[name] || !wanted[view]) && !slices.Contains(before, dropView(view)) {
					before = append(before, dropView(view))
				}
			}
		}
	}
	return before, after, levels
}

// madeView is a view that is there.
type madeView struct {
	hash   string
	grants []string // the statements that give the rights on it, with %s for the view
}

// readViews reads which views there are, by name; none before the first
// migration.
func readViews(ctx context.Context, q querier) (map[string]madeView, error) {
	made := map[string]madeView{}
	if there, err := exists(ctx, q, "weir.view"); err != nil || !there {
		return made, err
	}
	rows, err := q.QueryContext(ctx, `
		SELECT v.name, v.hash, ARRAY(
			SELECT format('GRANT %s ON %%s TO %s%s', a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE replace(quote_ident(pg_get_userbyid(a.grantee)), '%', '%%') END,
				CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
			FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
		FROM weir.view v JOIN pg_class c ON c.oid = to_regclass(format('weir_view.%I', v.name))`)
	if err != nil {
		return nil, fmt.Errorf("read which views there are: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var name string
		var view madeView
		if err := rows.Scan(&name, &view.hash, pq.Array(&view.grants)); err != nil {
			return nil, fmt.Errorf("read which views there are: %w", err)
		}
		made[name] = view
	}
	return made, rows.Err()
}
