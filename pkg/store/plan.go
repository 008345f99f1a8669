package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"weir/pkg/aggregation"
)

// Change is one step of a plan.
type Change struct {
	// Text says it to a person: "create aggregation …".
	Text string
	// Note: there is nothing to do, it is only worth knowing.
	Note bool
	of   string // the aggregation's name
	sql  []string

	drops      string // the id of the aggregation that is dropped by this, or ""
	creates    string // the id of the aggregation that gets its tables by this, or ""
	backfilled bool   // and is to get what the stream holds of before
}

// PlanOptions says what a plan may do beside adding.
type PlanOptions struct {
	// Destroy names the aggregations whose removed parts, or earlier versions
	// (Calls@1), are dropped with their rows; Everything names all of them.
	Destroy []string
	// Backfill marks the aggregations that are created beside others as being
	// backfilled; see [DB.Backfills].
	Backfill bool
}

// Everything stands for all names.
const Everything = "*"

// Plan returns what [DB.Apply] would do to make the tables that the
// definitions need; nothing if all is there.
//
// What is there is kept. A measure or a coarser level that was added goes into
// the tables as they are, while workers write; a measure that was removed is
// not filled any more. Other group keys, another zone, a measure that is
// computed otherwise: these make a new version of the aggregation beside the
// old one. Rows are dropped only where options say so.
func (db *DB) Plan(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) ([]Change, error) {
	migrated, err := db.Migrated(ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	if !migrated {
		changes = append(changes, Change{Text: "migrate Weir's own tables (schema weir)"})
	}
	tables, err := planTables(ctx, db.sql, defs, options)
	return append(changes, tables...), err
}

const (
	applyLockWait = 2 * time.Second // for flushes and questions to let a table go
	applyTries    = 15
)

// Apply carries out the plan, all of it or nothing. Any number of processes
// may call it at once: an advisory lock lets one after another. Workers go on
// meanwhile: where a table is not free soon, it steps back and tries again.
func (db *DB) Apply(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) error {
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := db.InTx(ctx, func(tx *Tx) error { return tx.apply(ctx, defs, options) })
		if err == nil || try == applyTries || !hasCode(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected) {
			return err
		}
	}
}

func (tx *Tx) apply(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) error {
	if _, err := tx.tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('weir.apply', 0))`); err != nil {
		return fmt.Errorf("wait for another apply: %w", err)
	}
	changes, err := planTables(ctx, tx.tx, defs, options)
	if err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, applyLockWait.Milliseconds())); err != nil {
		return err
	}
	for _, change := range changes {
		if err := tx.unused(ctx, change); err != nil {
			return err
		}
		for _, statement := range change.sql {
			if _, err := tx.tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", change.Text, err)
			}
		}
	}
	return nil
}

// unused refuses to drop an aggregation that a live worker folds into: it could
// not go on.
func (tx *Tx) unused(ctx context.Context, change Change) error {
	if change.drops == "" {
		return nil
	}
	var users string
	err := tx.tx.QueryRowContext(ctx, `
		SELECT coalesce(string_agg(shard_id || ' (' || owner || ')', ', ' ORDER BY shard_id), '') FROM weir.shard s
		WHERE $1 = ANY (aggregations) AND `+liveShard, change.drops).Scan(&users)
	if err != nil {
		return fmt.Errorf("look for workers that use %s: %w", change.drops, err)
	}
	if users != "" {
		return fmt.Errorf("workers fold into aggregation %s, which is to be dropped: %s; restart them with the new definitions first", change.drops, users)
	}
	return nil
}

func planTables(ctx context.Context, q querier, defs []*aggregation.Definition, options PlanOptions) ([]Change, error) {
	all, err := records(ctx, q)
	if err != nil {
		return nil, err
	}
	p := planner{records: all, destroy: options.Destroy, dropped: map[string]bool{}}
	err = q.QueryRowContext(ctx, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`).Scan(&p.lz4)
	if err != nil {
		return nil, fmt.Errorf("ask for lz4 support: %w", err)
	}
	defined := map[string]bool{}
	for _, def := range defs {
		defined[def.Name] = true
		if err := p.define(def); err != nil {
			return nil, err
		}
	}
	p.removed(defined)
	if options.Backfill {
		p.backfills()
	}
	views, err := planViews(ctx, q, p.planned, p.dropped)
	p.views(views)
	return p.changes, err
}

// planner finds out what to do.
type planner struct {
	lz4     bool
	records []record
	destroy []string
	changes []Change
	dropped map[string]bool           // views, by the names of their tables
	planned []*aggregation.Definition // the definitions, in the versions that they then have
}

// plan notes which version of an aggregation its definition has after the plan.
func (p *planner) plan(def *aggregation.Definition, version int) *aggregation.Definition {
	versioned := *def
	versioned.Version = version
	p.planned = append(p.planned, &versioned)
	return &versioned
}

func (p *planner) add(of, text string, sql ...string) {
	p.changes = append(p.changes, Change{Text: text, of: of, sql: sql})
}

// views adds what has to be done to the views, with the tables where these
// change anyway.
func (p *planner) views(changes []Change) {
	for _, view := range changes {
		at := slices.IndexFunc(p.changes, func(c Change) bool { return c.of == view.of && !c.Note })
		if at < 0 {
			p.changes = append(p.changes, view)
			continue
		}
		p.changes[at].sql = append(p.changes[at].sql, view.sql...)
	}
}

// mayDrop reports whether what is removed of the aggregation may be dropped.
func (p *planner) mayDrop(name string) bool {
	return slices.ContainsFunc(p.destroy, func(d string) bool { return d == Everything || strings.EqualFold(d, name) })
}

func (p *planner) define(def *aggregation.Definition) error {
	want := recordOf(def)
	if r := find(p.records, func(r *record) bool { return r.Name == def.Name && r.serves(&want) }); r != nil && (len(r.fed()) == len(r.Measures) || !p.mayDrop(def.Name)) {
		p.plan(def, r.Version)
		p.refresh(r, &want)
		return nil
	}
	latest := find(p.records, func(r *record) bool { return r.Name == def.Name })
	if latest == nil {
		p.create(def, 1, "")
		return nil
	}
	if done, err := p.extend(def, latest, &want); done || err != nil {
		return err
	}
	version := 1
	for _, r := range p.records {
		if r.Name == def.Name {
			version = max(version, r.Version+1)
		}
	}
	p.create(def, version, differences(latest, &want))
	return nil
}

// create makes tables of their own for the definition.
func (p *planner) create(def *aggregation.Definition, version int, changed string) {
	versioned := p.plan(def, version)
	var levels, sql []string
	for _, level := range def.Granularities {
		levels = append(levels, strings.TrimPrefix(TableName(versioned, level), ident(versioned.ID())+"_"))
		sql = append(sql, createTable(versioned, level, p.lz4, false))
	}
	want := recordOf(versioned)
	sql = append(sql,
		fmt.Sprintf(`UPDATE weir.aggregation SET current = false WHERE name = %s`, pq.QuoteLiteral(def.Name)),
		fmt.Sprintf(`INSERT INTO weir.aggregation (name, version, current, definition) VALUES (%s, %d, true, %s)`,
			pq.QuoteLiteral(def.Name), version, pq.QuoteLiteral(want.text())))
	tables := fmt.Sprintf("(tables weir_data.%s_{%s})", ident(versioned.ID()), strings.Join(levels, ","))
	defer func() { p.changes[len(p.changes)-1].creates = versioned.ID() }()
	if version == 1 {
		p.add(def.Name, fmt.Sprintf("create aggregation %s %s", def.Name, tables), sql...)
		return
	}
	p.add(def.Name, fmt.Sprintf("create version %d of aggregation %s, which cannot share the tables of the one before: %s %s; the rows of version %d stay, as %s@%[5]d",
		version, def.Name, changed, tables, version-1, def.Name), sql...)
}

// text is the record as it is stored.
func (r *record) text() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts, numbers and flags
	}
	return string(text)
}

// save returns the statement that stores the record as the current version.
func (r *record) save() []string {
	name := pq.QuoteLiteral(r.Name)
	return []string{
		fmt.Sprintf(`UPDATE weir.aggregation SET current = false WHERE name = %s AND version <> %d`, name, r.Version),
		fmt.Sprintf(`UPDATE weir.aggregation SET current = true, definition = %s, applied_at = now() WHERE name = %s AND version = %d`,
			pq.QuoteLiteral(r.text()), name, r.Version),
	}
}

// refresh notes what changed in a definition whose tables stay as they are.
func (p *planner) refresh(r, want *record) {
	updated := *r
	updated.Current, updated.Retention, updated.ByShard = true, want.Retention, want.ByShard
	var what []string
	if !r.Current {
		what = append(what, fmt.Sprintf("version %d is used again", r.Version))
	}
	if r.ByShard != want.ByShard {
		what = append(what, map[bool]string{true: "shard_id becomes a column of its answers", false: "shard_id is no column of its answers any more"}[want.ByShard])
	}
	for _, level := range want.Levels {
		if have, wanted := kept(r, level), kept(want, level); have != wanted {
			what = append(what, fmt.Sprintf("%s are kept %s, not %s", level, wanted, have))
		}
	}
	updated.Measures = slices.Clone(r.Measures)
	for _, m := range want.Measures { // what an expression is called may change
		updated.measure(m.Name).Arg = m.Arg
	}
	if len(what) == 0 && updated.text() != r.text() {
		what = append(what, "its measures are written otherwise")
	}
	if len(what) > 0 {
		p.add(r.Name, fmt.Sprintf("change aggregation %s: %s", r.Name, strings.Join(what, "; ")), updated.save()...)
	}
}

func kept(r *record, level string) string {
	if keep, limited := r.Retention[level]; limited {
		return "for " + keep
	}
	return "for ever"
}

// removed tells of what is not defined any more, and drops it where that is
// wanted.
func (p *planner) removed(defined map[string]bool) {
	for i := range p.records {
		r := &p.records[i]
		def, err := r.definition()
		if err != nil {
			continue // of a later version of the program: not ours to drop
		}
		versioned := fmt.Sprintf("%s@%d", r.Name, r.Version)
		switch {
		case defined[r.Name] && p.inUse(r):
		case p.mayDrop(versioned) || p.mayDrop(def.ID()) && !defined[r.Name]:
			p.drop(def)
		case !defined[r.Name]:
			p.changes = append(p.changes, Change{Note: true, Text: fmt.Sprintf(
				"aggregation %s is not defined any more: its rows stay and can be asked for (`weir apply --destroy=%[1]s` drops them)", def.ID())})
		}
	}
}

// inUse reports whether the record's tables are those of a definition, as they
// are or after the plan.
func (p *planner) inUse(r *record) bool {
	return !slices.ContainsFunc(p.records, func(o record) bool { return o.Name == r.Name && o.Version > r.Version }) || r.Current
}

func (p *planner) drop(def *aggregation.Definition) {
	var sql []string
	for _, level := range def.Granularities {
		sql = append(sql, dropView(def, level))
	}
	for _, level := range def.Granularities {
		sql = append(sql, "DROP TABLE "+tableOf(def, level))
	}
	sql = append(sql, forget(def, "")...)
	sql = append(sql, fmt.Sprintf(`DELETE FROM weir.aggregation WHERE name = %s AND version = %d`, pq.QuoteLiteral(def.Name), max(1, def.Version)))
	p.changes = append(p.changes, Change{
		Text: fmt.Sprintf("DROP aggregation %s with all its rows", def.ID()), of: def.ID(), drops: def.ID(), sql: sql,
	})
}

// forget removes what is known of a level's rows, or of all levels'.
func forget(def *aggregation.Definition, level string) []string {
	where := " WHERE aggregation = " + pq.QuoteLiteral(def.ID())
	if level != "" {
		where += " AND level = " + pq.QuoteLiteral(level)
	}
	return []string{"DELETE FROM weir.watermark" + where, "DELETE FROM weir.compacted" + where}
}
