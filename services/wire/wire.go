// Package wire makes from the configuration what the roles run on: the
// definitions, a pool of Postgres connections, a connection to NATS.
package wire

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"time"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/failpoint"
	"weir/pkg/notify"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/streams"
)

// Catalog loads the definitions: those of cfg.Streams, a directory, or the
// built-in pack.
func Catalog(cfg config.Config) (*definition.Catalog, error) {
	return CatalogWith(cfg, definition.Options{})
}

// CatalogWith is Catalog with options; it fills in where the files are.
func CatalogWith(cfg config.Config, options definition.Options) (*definition.Catalog, error) {
	var files fs.FS = streams.Files
	options.Dir, options.NotByID, options.GeoIP = "streams", !cfg.PartitionByID, cfg.GeoIP
	if cfg.Streams != "" {
		info, err := os.Stat(cfg.Streams)
		if err != nil {
			return nil, config.Problems{"streams must be a directory of definitions: " + err.Error()}
		}
		if !info.IsDir() {
			return nil, config.Problems{"streams must be a directory of definitions; " + cfg.Streams + " is none"}
		}
		files, options.Dir = os.DirFS(cfg.Streams), cfg.Streams
	}
	return definition.LoadWith(files, options)
}

// Notifiers are those of the file; none where no file is given.
func Notifiers(catalog *definition.Catalog, file string) ([]*notify.Target, error) {
	if file == "" {
		return nil, nil
	}
	rules := make([]string, len(catalog.Rules))
	for i, rule := range catalog.Rules {
		rules[i] = rule.Name
	}
	return notify.Load(file, notify.Options{Rules: rules})
}

// Failpoints are where this process is to fail: nowhere, save in builds for tests.
func Failpoints() (*failpoint.Set, error) { return failpoint.Parse(os.Getenv(failpoint.Variable)) }

// Store opens the pool; role is what Postgres shows it as.
func Store(ctx context.Context, cfg config.Config, role string) (*store.DB, error) {
	settings, err := storeConfig(cfg, role)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, settings)
}

// Pool opens a pool for the auditor, which has SQL of its own.
func Pool(ctx context.Context, cfg config.Config, role string) (*sql.DB, error) {
	settings, err := storeConfig(cfg, role)
	if err != nil {
		return nil, err
	}
	settings.MaxOpen = 3 // its lock, a snapshot, what it writes
	return store.OpenPool(ctx, settings)
}

func storeConfig(cfg config.Config, role string) (c store.Config, err error) {
	p := cfg.Postgres
	failpoints, err := Failpoints()
	if err != nil {
		return c, err
	}
	const none = -1 // a 0 of the configuration; for the store that is "not given"
	return store.Config{
		URL: string(p.URL), Name: "weir " + role, MaxOpen: p.MaxOpen, ConnectTimeout: p.ConnectTimeout,
		MaxIdle: cmp.Or(p.MaxIdle, none), IdleTime: cmp.Or(p.IdleTime, none),
		Lifetime: cmp.Or(p.Lifetime, none), StatementTimeout: cmp.Or(p.StatementTimeout, none),
		Failpoints: failpoints,
		// Whoever waits for a worker that hangs must be through before its messages are delivered again.
		IdleInTx: min(5*time.Second, cfg.Stream.AckWait/2),
	}, nil
}

// Bound loads the definitions, opens the pool and finds their tables: what a
// command needs that works on the database alone.
func Bound(ctx context.Context, cfg config.Config, role string) (*definition.Catalog, *store.DB, error) {
	catalog, err := Catalog(cfg)
	if err != nil {
		return nil, nil, err
	}
	db, err := Store(ctx, cfg, role)
	if err != nil {
		return nil, nil, err
	}
	if catalog, err = Bind(ctx, catalog, db); err != nil {
		_ = db.Close() // err says more
		return nil, nil, err
	}
	return catalog, db, nil
}

// Bind finds the tables of the definitions; an error says what is to be done
// where there are none.
func Bind(ctx context.Context, catalog *definition.Catalog, db *store.DB) (*definition.Catalog, error) {
	bound, earlier, missing, err := db.Bind(ctx, catalog.Aggregations)
	if err != nil {
		return nil, err
	}
	if missing != "" {
		return nil, errors.New(missing)
	}
	return catalog.Bound(bound, earlier), nil
}

// Owner says to people who holds a shard: this host and process.
func Owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s process %d", host, os.Getpid())
}

// Person is the user who runs a command, and where: what it is remembered by who has done something.
func Person() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// Explain says of an error of the database that it is not provisioned, where it
// is that, and what to do.
func Explain(err error) error {
	if store.NotApplied(err) {
		return fmt.Errorf("this database lacks the tables of these definitions: run `weir apply` (%w)", err)
	}
	return err
}

// Stream connects to NATS; role is what NATS shows the connection as.
func Stream(ctx context.Context, cfg config.Config, role string, log *zap.Logger) (*stream.Conn, error) {
	return stream.Connect(ctx, stream.Config{URL: string(cfg.NATS.URL), Creds: cfg.NATS.Creds, Name: "weir " + role, Log: log})
}

// Provision is what the configuration asks of JetStream.
func Provision(cfg config.Config) stream.Provision {
	maxAge := cfg.Stream.MaxAge
	if maxAge == 0 {
		maxAge = -1 // no limit
	}
	return stream.Provision{
		MaxAge: maxAge, MaxBytes: int64(cfg.Stream.MaxBytes), Replicas: cfg.Stream.Replicas,
		AckWait: cfg.Stream.AckWait, MaxAckPending: cfg.Stream.MaxAckPending,
	}
}
