package store

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/event"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// open returns a pool on the database.
func open(t testing.TB, address string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: address, MaxOpen: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// migratedAddress is a database of the test's own with Weir's tables: a copy, for
// to make them takes longer than most tests.
func migratedAddress(t testing.TB) string {
	t.Helper()
	return embeddedtest.PostgresLike(t, "migrated", func(url string) error {
		db, err := Open(t.Context(), Config{URL: url})
		if err != nil {
			return err
		}
		return errors.Join(db.Apply(t.Context(), nil, PlanOptions{}), db.Close())
	})
}

// migrated returns a pool on a database of its own with Weir's tables and
// those of the definitions.
func migrated(t testing.TB, defs ...*aggregation.Definition) *DB {
	t.Helper()
	db := open(t, migratedAddress(t))
	if len(defs) == 0 {
		return db
	}
	if err := db.Apply(t.Context(), defs, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	return db
}

// ask reads one value.
func ask[T any](t testing.TB, db *DB, query string, args ...any) T {
	t.Helper()
	var v T
	if err := db.sql.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func mustExec(t *testing.T, db *DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.sql.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func mustLease(t *testing.T, db *DB, shardID string, defs ...*aggregation.Definition) *Lease {
	t.Helper()
	lease, err := db.LeaseShard(t.Context(), shardID, "tests", 10*time.Second, defs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lease.Close() })
	return lease
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited half a minute until %s", what)
		}
	}
}

// waitForLock returns once n sessions of the database wait for a lock.
func waitForLock(t *testing.T, db *DB, n int) {
	t.Helper()
	until(t, "a session waits for a lock", func() bool {
		return waiting(t, db) >= n
	})
}

func waiting(t *testing.T, db *DB) int {
	t.Helper()
	return ask[int](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// step is a transaction that a test takes through its life: it does something,
// and stays open until it is told how to end.
type step struct {
	did  chan error // what f returned
	end  chan error // nil: commit
	done chan error
}

func begin(ctx context.Context, db *DB, f func(*Tx) error) *step {
	s := &step{did: make(chan error, 1), end: make(chan error, 1), done: make(chan error, 1)}
	go func() {
		s.done <- db.InTx(ctx, func(tx *Tx) error {
			err := f(tx)
			s.did <- err
			if err != nil {
				return err
			}
			return <-s.end
		})
	}()
	return s
}

// calls is an aggregation over two keys with a count and a sum.
func calls(name string) *aggregation.Definition {
	return &aggregation.Definition{
		Name:          name,
		Keys:          []aggregation.Key{{Name: "apiName", Kind: event.String}, {Name: "status", Kind: event.Int}},
		Measures:      []aggregation.Measure{{Name: "requests", Op: aggregation.Count}, {Name: "bytes", Op: aggregation.Sum, Arg: "size", ArgKind: event.Int}},
		Granularities: aggregation.Granularities(),
		Zone:          time.UTC,
	}
}

// oneCall is what one call adds to it.
func oneCall(def *aggregation.Definition, bucket time.Time) aggregation.Delta {
	dict := event.NewDictionary()
	return aggregation.Delta{Dict: dict, Parts: []aggregation.Part{{
		Definition: def, Level: def.Finest(), Bucket: bucket.UnixMicro(),
		Keys: [][]event.Cell{{dict.Intern("pizza")}, {200}}, Events: []event.Cell{1}, Checksums: []event.Cell{-1}, Measures: [][]event.Cell{nil, {10}},
	}}}
}

// flush writes a delta as a worker does.
func flush(ctx context.Context, db *DB, lease *Lease, delta aggregation.Delta, claims *Claims) error {
	return db.InTx(ctx, func(tx *Tx) error {
		batch, err := tx.NextBatch(ctx, lease, Totals{Messages: 1, Events: 1})
		if err != nil {
			return err
		}
		if err := tx.WriteDelta(ctx, lease.ShardID, batch, delta); err != nil {
			return err
		}
		return tx.Claim(ctx, claims)
	})
}

func TestConfig_KeepsWhatTheURLSays(t *testing.T) {
	t.Parallel()
	dsn, err := Config{URL: "postgres://u:p%40ss@h:5433/d?application_name=mine&statement_timeout=7&sslmode=disable", StatementTimeout: -1}.withDefaults().dsn()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if password, _ := u.User.Password(); u.Host != "h:5433" || u.Path != "/d" || u.User.Username() != "u" || password != "p@ss" {
		t.Errorf("got %s", dsn)
	}
	for name, want := range map[string]string{
		"application_name": "mine", "statement_timeout": "7", "sslmode": "disable",
		"connect_timeout": "5", "idle_in_transaction_session_timeout": "5000", "timezone": "UTC",
	} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestConfig_SetsWhatItSaysOnEveryConnection(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{URL: embeddedtest.Postgres(t), Name: "weir tests", StatementTimeout: 1234 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for setting, want := range map[string]string{
		"application_name": "weir tests", "statement_timeout": "1234ms", "timezone": "UTC", "idle_in_transaction_session_timeout": "5s",
		"transaction_isolation": "read committed",
	} {
		if got := ask[string](t, db, `SELECT current_setting($1)`, setting); got != want {
			t.Errorf("%s: got %s, want %s", setting, got, want)
		}
	}
}

func TestOpen_NamesNoPasswordInItsErrors(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(embeddedtest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	wrong := *u
	wrong.User = url.UserPassword("nobody-of-that-name", "s3cr3t")
	for _, address := range []string{
		wrong.String(),
		"postgres://weir:s3cr3t@127.0.0.1:1/weir",
		"postgres://weir:s3cr3t@host.invalid:5432/weir",
		"postgres://weir:s3cr3t@127.0.0.1:port/weir",
		"postgres://weir:s3cr3t@127.0.0.1:1/weir?sslmode=bogus",
		"postgres://weir:s3cr3t@127.0.0.1:1/weir?connect_timeout=s3cr3t",
		"postgres://weir:s3cr3t%zz@127.0.0.1/weir",
		"mysql://weir:s3cr3t@127.0.0.1/weir",
		"host=127.0.0.1 password=s3cr3t",
	} {
		db, err := Open(t.Context(), Config{URL: address, ConnectTimeout: 2 * time.Second})
		if err == nil {
			_ = db.Close()
			t.Errorf("%s: no error", address)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") && !strings.Contains(address, "timeout=s3cr3t") {
			t.Errorf("%s: the error tells the password: %v", address, err)
		}
	}
}

func TestInTx_RollsBackWhateverFails(t *testing.T) {
	t.Parallel()
	def := calls("RolledBack")
	db, err := Open(t.Context(), Config{URL: embeddedtest.Postgres(t), MaxOpen: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Apply(t.Context(), []*aggregation.Definition{def}, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	lease := mustLease(t, db, "s1", def)
	unknown := *lease
	unknown.ShardID = "no-such-shard"
	for range 5 { // more often than the pool has connections
		if err := flush(t.Context(), db, lease, oneCall(calls("NoSuchTable"), time.Unix(0, 0)), NewClaims()); err == nil {
			t.Fatal("a COPY into a missing table: no error")
		}
		err := db.InTx(t.Context(), func(tx *Tx) error {
			return tx.WriteDelta(t.Context(), unknown.ShardID, 1, oneCall(def, time.Unix(0, 0)))
		})
		if err == nil || !strings.Contains(err.Error(), "RolledBack") {
			t.Fatalf("a COPY for a shard without partition: got %v", err)
		}
	}
	if err := flush(t.Context(), db, lease, oneCall(def, time.Unix(0, 0)), NewClaims()); err != nil {
		t.Fatalf("after the failures: %v", err)
	}
	if shards, err := db.Shards(t.Context()); err != nil || len(shards) != 1 || shards[0].LastBatch != 1 || shards[0].Events != 1 {
		t.Errorf("got %+v, %v; want one batch", shards, err)
	}
}
