package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq/pqerror"

	"weir/pkg/aggregation"
)

// A process may have started before `weir apply` changed what it works on. What
// removes or renumbers rows must not go by what the process remembers: a level
// that was added since would never get them. So it goes by the database.

// errDropped means that the database has an aggregation, or one of its levels,
// no more.
var errDropped = errors.New("it was dropped")

// applied returns the aggregations as the database has them now, with all
// levels and all that rows can hold. What was dropped is left out. A retention
// is the caller's; that of a level the caller does not know is the database's.
func applied(ctx context.Context, q querier, defs []*aggregation.Definition) ([]*aggregation.Definition, error) {
	all, err := records(ctx, q)
	if err != nil {
		return nil, err
	}
	var now []*aggregation.Definition
	for _, def := range defs {
		r := recordFor(all, def)
		if r == nil {
			continue
		}
		whole, err := r.whole()
		if err != nil {
			return nil, fmt.Errorf("read the applied definition of %s: %w", def.ID(), err)
		}
		maps.DeleteFunc(whole.Retention, func(level aggregation.Granularity, _ time.Duration) bool { return def.Keeps(level) })
		for level, keep := range def.Retention {
			whole.Retention[level] = keep
		}
		now = append(now, whole)
	}
	return now, nil
}

// present leaves out the aggregations that were dropped.
func present(ctx context.Context, q querier, defs []*aggregation.Definition) ([]*aggregation.Definition, error) {
	all, err := records(ctx, q)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(defs), func(def *aggregation.Definition) bool {
		return recordFor(all, def) == nil
	}), nil
}

// steady runs f in a transaction during which apply changes nothing, on the
// aggregation as the database has it; errDropped if it has not that level, an
// [ErrProtocol] if this release may not write any more. Such
// a transaction may take long: it holds nothing that a flush or a question
// waits for.
func (db *DB) steady(ctx context.Context, def *aggregation.Definition, level aggregation.Granularity, f func(*Tx, *aggregation.Definition) error) error {
	return db.InTx(ctx, func(tx *Tx) error {
		const patient = `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '600000', true)`
		if _, err := tx.tx.ExecContext(ctx, patient); err != nil {
			return err
		}
		whole, err := tx.whole(ctx, def)
		if err == nil {
			err = db.outdated(ctx, tx.tx)
		}
		if err != nil {
			return err
		}
		if !whole.Keeps(level) {
			return fmt.Errorf("%s per %s: %w", def.ID(), level, errDropped)
		}
		return f(tx, whole)
	})
}

// TablesChanged reports whether Postgres refused a statement because the tables
// are not as this process knows them: a table or a column is gone, a shard has
// no partition, or a column must be filled that this process does not know.
// Trying the same again cannot help.
func TablesChanged(err error) bool {
	return hasCode(err, pqerror.UndefinedTable, pqerror.UndefinedColumn, pqerror.NotNullViolation) ||
		hasCode(err, pqerror.CheckViolation) && strings.Contains(err.Error(), "no partition of relation")
}
