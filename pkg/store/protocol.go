package store

import (
	"context"
	"errors"
	"fmt"
)

// Protocol is the version of the protocol between workers and the database that
// this release speaks: what a flush writes and in which order, and what that
// means. A change that an older worker's flushes would spoil raises it by one, and
// its migration calls weir.require_protocol with the new number.
const Protocol = 1

// ErrProtocol means that the database has been moved on to what this release
// does not speak. It is an [ErrFenced]: stop for good.
type ErrProtocol struct{ Have, Min int }

func (e ErrProtocol) Error() string {
	return fmt.Sprintf("this worker speaks version %d of Weir's protocol and the database has been migrated to version %d: stop this release, and start workers of the release that migrated it", e.Have, e.Min)
}

// Is makes it an ErrFenced.
func (e ErrProtocol) Is(target error) bool { return errors.Is(ErrFenced, target) }

// outdated returns an ErrProtocol if this process speaks less than the database
// asks for.
func (db *DB) outdated(ctx context.Context, q querier) error {
	e := ErrProtocol{Have: db.protocol}
	if err := q.QueryRowContext(ctx, `SELECT min_version FROM weir.protocol`).Scan(&e.Min); err != nil {
		return fmt.Errorf("ask which protocol the database needs: %w", err)
	}
	if e.Min > e.Have {
		return e
	}
	return nil
}
