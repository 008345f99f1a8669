package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"weir/pkg/embedded"
	"weir/pkg/store"
)

// postgres is a private server. Each measurement has a database of its own, made from a template.
type postgres struct {
	server *embedded.Postgres
	sql    *sql.DB // of the database that is only used to look after the others
}

func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	server, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Durable: true})
	if err != nil {
		return nil, err
	}
	p := &postgres{server: server}
	if p.sql, err = p.open(ctx, server.URL()); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// url is the address of a database.
func (p *postgres) url(database string) string {
	u, err := url.Parse(p.server.URL())
	if err != nil {
		return p.server.URL() // which it made itself
	}
	u.Path = "/" + database
	return u.String()
}

// open opens a pool for statements that may take long.
func (p *postgres) open(ctx context.Context, url string) (*sql.DB, error) {
	return store.OpenPool(ctx, store.Config{URL: url, Name: "weir bench", StatementTimeout: -1})
}

func (p *postgres) exec(ctx context.Context, statement string) error {
	if _, err := p.sql.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// create makes a database anew; the template may be "".
func (p *postgres) create(ctx context.Context, name, template string) error {
	if err := p.drop(ctx, name); err != nil {
		return err
	}
	statement := "CREATE DATABASE " + name
	if template != "" {
		statement += " TEMPLATE " + template + " STRATEGY file_copy"
	}
	return p.exec(ctx, statement)
}

func (p *postgres) drop(ctx context.Context, name string) error {
	return p.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// checkpoint writes what is not on disk yet, so that no measurement pays for the one before.
func (p *postgres) checkpoint(ctx context.Context) error { return p.exec(ctx, "CHECKPOINT") }

// wal is the number of bytes that were ever written to the log.
func (p *postgres) wal(ctx context.Context) (bytes int64, err error) {
	if err := p.sql.QueryRowContext(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&bytes); err != nil {
		return 0, fmt.Errorf("ask for the size of the log: %w", err)
	}
	return bytes, nil
}

const postgresStop = 30 * time.Second

// close ends the server, whatever ctx has.
func (p *postgres) close(ctx context.Context) error {
	if p.sql != nil {
		_ = p.sql.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), postgresStop)
	defer cancel()
	return p.server.Close(ctx)
}
