// Package store is Weir's Postgres side: the only importer of lib/pq and the
// home of all SQL.
//
// Writing: a worker leases its shard ([DB.LeaseShard]) and flushes each batch
// in one transaction ([DB.InTx]), which takes the next batch number under the
// lease's epoch, appends the delta, the alerts with their outbox, and the
// dead letters, and last of all claims the batch's messages in the ledger
// ([Tx.Claim]). If any of them is claimed already the whole transaction rolls
// back. That claim, in the transaction that carries the effects, is what
// makes the effect exactly once.
//
// Reading: a question is answered from one snapshot, merged over all shards
// and batches.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"weir/migrations"
	"weir/pkg/failpoint"
)

// Config says how to reach Postgres and how many connections to hold.
type Config struct {
	URL              string        // postgres://user:password@host:port/database?…
	Name             string        // application_name, as pg_stat_activity shows it
	MaxOpen          int           // most connections open; 0 = 10
	Questions        int           // most questions under way at a time, the others wait; 0 = 4
	MaxIdle          int           // most connections kept idle; 0 = 5
	IdleTime         time.Duration // an idle connection is closed after this; 0 = 5m
	Lifetime         time.Duration // a connection is renewed after this; 0 = 1h
	ConnectTimeout   time.Duration // 0 = 5s
	StatementTimeout time.Duration // no statement runs longer; 0 = 30s, negative = no bound
	// IdleInTx ends a transaction whose client does nothing for so long; 0 = 5s.
	// Keep it below the consumer's AckWait: see [Config.session].
	IdleInTx time.Duration
	// Protocol is the version that this process speaks, for tests; 0 = [Protocol].
	Protocol int
	// Failpoints are where this process is to fail, for tests.
	Failpoints *failpoint.Set
}

func (c Config) withDefaults() Config {
	setInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	setInt(&c.MaxOpen, 10)
	setInt(&c.Questions, defaultQuestions)
	setInt(&c.MaxIdle, 5)
	set(&c.IdleTime, 5*time.Minute)
	set(&c.Lifetime, time.Hour)
	set(&c.ConnectTimeout, 5*time.Second)
	set(&c.StatementTimeout, 30*time.Second)
	set(&c.IdleInTx, 5*time.Second)
	setInt(&c.Protocol, Protocol)
	if c.Name == "" {
		c.Name = "weir"
	}
	return c
}

// DB is a pool of connections. It is safe for concurrent use.
type DB struct {
	sql        *sql.DB
	protocol   int
	lockWait   time.Duration // of a flush
	idleInTx   time.Duration // Config.IdleInTx
	failpoints *failpoint.Set
	encoders   sync.Pool // of *encoder
	turns      *turns    // of questions
	// The constants of these names, but in tests.
	levelGroups, someBatches, mostGroups, mergeRoom int
}

// Open connects and checks that the server answers.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg = cfg.withDefaults()
	dsn, err := cfg.dsn()
	if err != nil {
		return nil, err
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres url: %w", err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(cfg.MaxOpen)
	pool.SetMaxIdleConns(cfg.MaxIdle)
	pool.SetConnMaxIdleTime(cfg.IdleTime)
	pool.SetConnMaxLifetime(cfg.Lifetime)
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to Postgres: %w", err), pool.Close())
	}
	return &DB{
		sql: pool, protocol: cfg.Protocol, lockWait: cfg.IdleInTx + time.Second, idleInTx: cfg.IdleInTx, failpoints: cfg.Failpoints, turns: newTurns(cfg.Questions, cfg.MaxOpen/2),
		levelGroups: levelGroups, someBatches: someBatches, mostGroups: mostGroups, mergeRoom: mergeRoom,
	}, nil
}

// dsn adds the settings every connection of Weir has to the URL; what the URL
// says itself is kept.
func (c Config) dsn() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("the Postgres URL must look like postgres://user:password@host:5432/database")
	}
	q := u.Query()
	set := func(name, value string) {
		if !q.Has(name) {
			q.Set(name, value)
		}
	}
	set("application_name", c.Name)
	set("connect_timeout", strconv.Itoa(max(1, int(c.ConnectTimeout/time.Second))))
	set("statement_timeout", strconv.FormatInt(max(0, c.StatementTimeout.Milliseconds()), 10))
	for name, value := range c.session() {
		set(name, value)
	}
	set("timezone", "UTC")
	// Questions are short; compiling them takes longer than running them.
	set("jit", "off")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Close closes all connections.
func (db *DB) Close() error { return db.sql.Close() }

// Ping reports whether Postgres answers.
func (db *DB) Ping(ctx context.Context) error { return db.sql.PingContext(ctx) }

// Migrate brings Weir's own tables up to this program's version. Any number
// of processes may call it at once: an advisory lock lets one after another.
func (db *DB) Migrate(ctx context.Context) error {
	provider, err := db.migrator()
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Migrated reports whether Weir's own tables are as this program needs them.
func (db *DB) Migrated(ctx context.Context) (bool, error) {
	provider, err := db.migrator()
	if err != nil {
		return false, err
	}
	pending, err := provider.HasPending(ctx)
	if err != nil {
		return false, fmt.Errorf("look at migrations: %w", err)
	}
	return !pending, nil
}

// exists reports whether there is such a table; before the first migration there
// is none of Weir's own.
func exists(ctx context.Context, q querier, table string) (there bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT to_regclass(`+pq.QuoteLiteral(table)+`) IS NOT NULL`).Scan(&there)
	return there, err
}

func (db *DB) migrator() (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db.sql, fs.FS(migrations.Files),
		goose.WithSessionLocker(locker), goose.WithTableName("public.weir_migration"))
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return provider, nil
}

// Tx is one flush transaction.
type Tx struct {
	db       *DB
	conn     *sql.Conn
	tx       *sql.Tx
	numbered bool // it is a flush: NextBatch has given it a number
}

// InTx runs f in one transaction and commits it if f returns nil. The
// transaction is READ COMMITTED, and that is a safety property: a claim that
// waited for another worker must see what that worker committed. When the
// returned error comes from the commit itself the outcome is unknown: act as
// if it failed, the ledger tells on the next try.
func (db *DB) InTx(ctx context.Context, f func(*Tx) error) error {
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // back to the pool
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // unless it has ended; also where f panics: else the connection could not be given back
	flush := &Tx{db: db, conn: conn, tx: tx}
	if err := f(flush); err != nil {
		return err
	}
	err = tx.Commit()
	if err == nil && flush.numbered {
		err = db.failpoints.Hit(failpoint.Committed)
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Unstorable reports whether Postgres refused the data themselves (SQLSTATE
// classes 22, data exception, and 54, limit exceeded): trying again cannot help.
func Unstorable(err error) bool {
	var refused *pq.Error
	return errors.As(err, &refused) && (refused.Code.Class() == "22" || refused.Code.Class() == "54")
}

// ended is the error of a statement, and the context's where that has ended:
// Postgres then says only that it was told to stop.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// hasCode reports whether Postgres refused with one of the SQLSTATE codes.
func hasCode(err error, codes ...pqerror.Code) bool {
	var refused *pq.Error
	if !errors.As(err, &refused) {
		return false
	}
	for _, code := range codes {
		if refused.Code == code {
			return true
		}
	}
	return false
}
