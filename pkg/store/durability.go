package store

import (
	"context"
	"fmt"
)

// Durability is what the server does with what it has confirmed, by the names
// of its settings, as the sessions of this pool have them.
type Durability struct {
	// Standby: the server repeats what another one writes, and takes no writes.
	Standby           bool
	Fsync             string // on, or off
	SynchronousCommit string // of this pool's sessions: off, local, on, remote_write or remote_apply
	FullPageWrites    string // on, or off
	WALLevel          string // minimal, replica or logical
	DataChecksums     string // on, or off
	// StandbyNames are the standbys that a commit waits for; "": none.
	StandbyNames string
}

// Durability asks the server.
func (db *DB) Durability(ctx context.Context) (d Durability, err error) {
	err = db.sql.QueryRowContext(ctx, `
		SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
			current_setting('wal_level'), current_setting('data_checksums'), current_setting('synchronous_standby_names')`).Scan(
		&d.Standby, &d.Fsync, &d.SynchronousCommit, &d.FullPageWrites, &d.WALLevel, &d.DataChecksums, &d.StandbyNames)
	if err != nil {
		return d, fmt.Errorf("ask Postgres what it keeps: %w", err)
	}
	return d, nil
}
