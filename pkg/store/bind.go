package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"weir/pkg/aggregation"
)

// Bind finds the tables of the definitions: bound are the same definitions with
// their versions, earlier is all else that has tables, earlier versions and
// aggregations that are not defined any more, as the tables tell. missing is a
// sentence that says what `weir apply` has still to do, or "". Tables may have
// more than a definition needs: what a newer one has added hurts no reader, and
// no worker that runs; see [DB.Overtaken].
func (db *DB) Bind(ctx context.Context, defs []*aggregation.Definition) (bound, earlier []*aggregation.Definition, missing string, err error) {
	migrated, err := db.Migrated(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	all, err := records(ctx, db.sql)
	if err != nil {
		return nil, nil, "", err
	}
	var lacking []string
	if !migrated {
		lacking = append(lacking, "Weir's own tables")
	}
	used := map[string]bool{}
	for _, def := range defs {
		want := recordOf(def)
		r := find(all, func(r *record) bool { return r.Name == def.Name && r.holds(&want) })
		if r == nil {
			lacking = append(lacking, "aggregation "+def.Name)
			continue
		}
		copied := *def
		copied.Version = r.Version
		bound, used[copied.ID()] = append(bound, &copied), true
	}
	for i := range all {
		def, err := all[i].definition()
		if err != nil {
			return nil, nil, "", fmt.Errorf("read the applied definition of %s: %w", all[i].Name, err)
		}
		if !used[def.ID()] {
			earlier = append(earlier, def)
		}
	}
	return bound, earlier, unprovisioned(lacking), nil
}

func unprovisioned(lacking []string) string {
	if len(lacking) == 0 {
		return ""
	}
	more := ""
	if len(lacking) > 1 {
		more = fmt.Sprintf(" and %d more", len(lacking)-1)
	}
	return fmt.Sprintf("Postgres is not provisioned for these definitions (%s%s): run `weir apply`", lacking[0], more)
}

// Missing returns a sentence that says what `weir apply` has still to do, or
// "" if the tables are as the definitions need them.
func (db *DB) Missing(ctx context.Context, defs []*aggregation.Definition) (string, error) {
	_, _, missing, err := db.Bind(ctx, defs)
	return missing, err
}

// Overtaken returns a sentence that says which of the definitions is older than
// that of the database, or "". A worker with it must not begin: it would leave
// out of what it folds, and of what it rolls up for others, all that it does not
// know.
func (db *DB) Overtaken(ctx context.Context, defs []*aggregation.Definition) (string, error) {
	all, err := records(ctx, db.sql)
	if err != nil {
		return "", err
	}
	for _, def := range defs {
		want := recordOf(def)
		r := find(all, func(r *record) bool { return r.Name == def.Name && r.holds(&want) })
		if r == nil {
			continue // that is for Missing to say
		}
		var more []string
		for _, m := range r.fed() {
			if want.measure(m.Name) == nil {
				more = append(more, "measure "+m.Name)
			}
		}
		for _, level := range r.Levels {
			if !slices.Contains(want.Levels, level) {
				more = append(more, "level "+level)
			}
		}
		if len(more) > 0 {
			return fmt.Sprintf("the database has a newer definition of %s (%s): start this worker with it", def.Name, strings.Join(more, ", ")), nil
		}
	}
	return "", nil
}
