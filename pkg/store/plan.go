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

	guards     []guard // what must not be in the way
	creates    string  // the id of the aggregation that gets its tables by this, or ""
	backfilled bool    // and is to get what the stream holds of before
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
//
// What cannot be done is a [Refused] error, beside all the changes: it keeps
// [DB.Apply] from making any of them.
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
	// applyIdle is what a plan may take to be computed, on a busy machine, in the middle of the transaction;
	// a session's own limit is for flushes (see session).
	applyIdle  = 10 * time.Second
	applyTries = 15
)

// Apply carries out the plan, all of it or nothing. Any number of processes
// may call it at once: an advisory lock lets one after another. Workers go on
// meanwhile: where a table is not free soon, it steps back and tries again, as
// it does where its session was lost.
func (db *DB) Apply(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) error {
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := db.InTx(ctx, func(tx *Tx) error { return tx.apply(ctx, defs, options) })
		again := Unavailable(err) || hasCode(err, pqerror.LockNotAvailable, pqerror.TRDeadlockDetected, pqerror.IdleInTransactionSessionTimeout)
		if !again || try == applyTries {
			return err
		}
	}
}

func (tx *Tx) apply(ctx context.Context, defs []*aggregation.Definition, options PlanOptions) error {
	if _, err := tx.tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL idle_in_transaction_session_timeout = %d`, applyIdle.Milliseconds())); err != nil {
		return fmt.Errorf("let Postgres wait for the plan: %w", err)
	}
	if _, err := tx.tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('weir.apply', 0))`); err != nil {
		return fmt.Errorf("wait for another apply: %w", err)
	}
	changes, err := planTables(ctx, tx.tx, defs, options)
	if err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, applyLockWait.Milliseconds())); err != nil {
		return fmt.Errorf("limit the wait for tables: %w", err)
	}
	if err := tx.holdGuards(ctx, changes); err != nil {
		return err
	}
	for _, change := range changes {
		for _, statement := range change.sql {
			if _, err := tx.tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", change.Text, explainDependents(err))
			}
		}
	}
	return nil
}

func planTables(ctx context.Context, q querier, defs []*aggregation.Definition, options PlanOptions) ([]Change, error) {
	all, err := records(ctx, q)
	if err != nil {
		return nil, err
	}
	p := planner{records: all, destroy: options.Destroy, remake: map[string]bool{}, left: map[string]bool{}}
	err = q.QueryRowContext(ctx, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`).Scan(&p.lz4)
	if err != nil {
		return nil, fmt.Errorf("ask for lz4 support: %w", err)
	}
	for _, def := range defs {
		p.define(def)
	}
	p.removed(defs)
	if options.Backfill {
		p.backfills()
	}
	made, err := readViews(ctx, q)
	if err != nil {
		return nil, err
	}
	p.views(made)
	refused, err := guarded(ctx, q, p.changes)
	if err != nil {
		return nil, err
	}
	if refused = append(p.refused, refused...); len(refused) > 0 {
		return p.changes, refused
	}
	return p.changes, nil
}

// planner finds out what to do.
type planner struct {
	lz4     bool
	records []record
	destroy []string
	changes []Change
	refused Refused
	planned []*aggregation.Definition // the definitions, in the versions that they then have
	remake  map[string]bool           // names of aggregations whose views are in the way of what is dropped
	left    map[string]bool           // names of aggregations that cannot be planned at all
	gone    []*record                 // what is dropped
	// droppable are the names that --destroy may name.
	droppable []string
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

// define plans for one definition: the version that is current goes on where it
// can, else another one whose tables serve is used again, else a new one is made.
func (p *planner) define(def *aggregation.Definition) {
	if p.differsInCase(def) {
		return
	}
	want := recordOf(def)
	latest := find(p.records, func(r *record) bool { return r.Name == def.Name })
	if latest == nil {
		p.create(def, 1, nil)
		return
	}
	version := latest.Version
	var older *record // that serves
	for i := range p.records {
		if r := &p.records[i]; r.Name == def.Name {
			version = max(version, r.Version)
			if r != latest && r.serves(&want) {
				older = r // the last of them
			}
		}
	}
	extends := older == nil || p.mayDrop(def.Name) || !latest.loses(&want) // without being refused
	switch {
	case extends && p.take(def, latest, &want):
	case older != nil && p.take(def, older, &want):
	default:
		p.create(def, version+1, latest)
	}
}

// take lets the definition have the tables of a version, if they serve or can
// be made to.
func (p *planner) take(def *aggregation.Definition, r, want *record) bool {
	if r.serves(want) && (len(r.fed()) == len(r.Measures) || !p.mayDrop(def.Name)) {
		p.plan(def, r.Version)
		p.refresh(r, want)
		return true
	}
	return p.extend(def, r, want)
}

// create makes tables of their own for the definition, beside those of a
// version before if there is one.
func (p *planner) create(def *aggregation.Definition, version int, before *record) {
	versioned := p.plan(def, version)
	var levels []string
	sql := forget(versioned, "") // of a former one of that name
	for _, level := range def.Granularities {
		levels = append(levels, strings.TrimPrefix(versioned.Table(level), ident(versioned.ID())+"_"))
		sql = append(sql, createTable(versioned, level, p.lz4, false))
	}
	want := recordOf(versioned)
	sql = append(sql,
		fmt.Sprintf(`UPDATE weir.aggregation SET current = false WHERE name = %s`, pq.QuoteLiteral(def.Name)),
		fmt.Sprintf(`INSERT INTO weir.aggregation (name, version, current, definition) VALUES (%s, %d, true, %s)`,
			pq.QuoteLiteral(def.Name), version, pq.QuoteLiteral(want.text())))
	tables := fmt.Sprintf("(tables weir_data.%s_{%s})", ident(versioned.ID()), strings.Join(levels, ","))
	defer func() { p.changes[len(p.changes)-1].creates = versioned.ID() }()
	if before == nil {
		p.add(def.Name, fmt.Sprintf("create aggregation %s %s", def.Name, tables), sql...)
		return
	}
	p.add(def.Name, fmt.Sprintf("create version %d of aggregation %s, which cannot share the tables of the one before: %s %s; the rows of version %d stay, as %s",
		version, def.Name, differences(before, &want), tables, before.Version, before.versioned()), sql...)
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
	updated.Current, updated.Undefined, updated.Retention, updated.ByShard = true, false, want.Retention, want.ByShard
	updated.Where = want.Where
	what := r.comeback()
	if r.ByShard != want.ByShard {
		what = append(what, map[bool]string{true: "shard_id becomes a column of its answers", false: "shard_id is no column of its answers any more"}[want.ByShard])
	}
	for _, level := range want.Levels {
		if have, wanted := kept(r, level), kept(want, level); have != wanted {
			what = append(what, fmt.Sprintf("%s are kept %s, not %s", level, wanted, have))
		}
	}
	updated.Measures = slices.Clone(r.Measures)
	for _, m := range want.Measures { // how an expression is written may change
		updated.measure(m.Name).Arg = m.Arg
	}
	if len(what) == 0 && updated.text() != r.text() {
		what = append(what, "its expressions are written otherwise")
	}
	if len(what) > 0 {
		p.add(r.Name, fmt.Sprintf("change aggregation %s: %s", r.Name, strings.Join(what, "; ")), updated.save()...)
	}
}

// comeback says what is missing where the record was not filled for a while.
func (r *record) comeback() []string {
	switch {
	case r.Undefined:
		return []string{"it is defined again; what workers folded meanwhile that did not know it is not in it"}
	case !r.Current:
		return []string{fmt.Sprintf("version %d is used again; what workers folded meanwhile that did not know it is not in it", r.Version)}
	}
	return nil
}

func kept(r *record, level string) string {
	text, limited := r.Retention[level]
	if !limited {
		return "for ever"
	}
	keep, err := time.ParseDuration(text)
	if err != nil {
		return "for " + text
	}
	return "for " + spoken(keep)
}

// spoken is a duration as people write it: 10 years, 72 hours.
func spoken(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit  time.Duration
		least time.Duration // below it the next smaller unit says it
		name  string
	}{{365 * day, 365 * day, "year"}, {day, 4 * day, "day"}, {time.Hour, time.Hour, "hour"}, {time.Minute, time.Minute, "minute"}, {time.Second, 0, "second"}} {
		if n := d / u.unit; d%u.unit == 0 && d >= u.least {
			return fmt.Sprintf("%d %s%s", n, u.name, map[bool]string{false: "s"}[n == 1])
		}
	}
	return d.String()
}
