// Package wire makes from the configuration what the roles run on: the
// definitions, a pool of Postgres connections, a connection to NATS.
package wire

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"go.uber.org/zap"

	"weir/pkg/definition"
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
	options.Dir = "streams"
	if cfg.Streams != "" {
		info, err := os.Stat(cfg.Streams)
		if err != nil {
			return nil, fmt.Errorf("definitions: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("definitions: %s is no directory", cfg.Streams)
		}
		files, options.Dir = os.DirFS(cfg.Streams), cfg.Streams
	}
	return definition.LoadWith(files, options)
}

// Store opens the pool; role is what Postgres shows it as.
func Store(ctx context.Context, cfg config.Config, role string) (*store.DB, error) {
	p := cfg.Postgres
	if p.StatementTimeout == 0 {
		p.StatementTimeout = -1 // no bound
	}
	return store.Open(ctx, store.Config{
		URL: string(p.URL), Name: "weir " + role, MaxOpen: p.MaxOpen, MaxIdle: p.MaxIdle, IdleTime: p.IdleTime,
		Lifetime: p.Lifetime, ConnectTimeout: p.ConnectTimeout, StatementTimeout: p.StatementTimeout,
	})
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
