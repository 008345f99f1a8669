package store

import (
	"context"
	"database/sql"
)

// OpenPool opens a pool with the settings that all of Weir's connections have,
// for who has SQL of its own: the auditor, which must not share what it checks.
func OpenPool(ctx context.Context, cfg Config) (*sql.DB, error) {
	db, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return db.sql, nil
}

// Pool is the pool itself, for the auditor of a process that has one.
func (db *DB) Pool() *sql.DB { return db.sql }
