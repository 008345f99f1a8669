// Package api is `weir api`: the role that answers questions over HTTP.
package api

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/health"
	"weir/services/httpserver"
	"weir/services/wire"
)

// Command is `weir api`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Answer questions over HTTP",
		Long: `Serve the HTTP API: questions to the aggregations, alerts, dead letters, /healthz and /readyz. Any number may run.
On SIGTERM requests in hand are answered first.`,
		Example: `  weir api --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir --http 0.0.0.0:8080`,
		Args:    cobra.NoArgs,
		RunE:    run,
	}
	config.Flags(cmd, config.NATS, config.Postgres, config.Listen, config.Definitions)
	return cmd
}

func run(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	log := config.Logger(cfg)
	db, err := wire.Store(cmd.Context(), cfg, "api")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := wire.Stream(cmd.Context(), cfg, "api", log)
	if err != nil {
		return err
	}
	defer conn.Close()
	listener, err := httpserver.Listen(cmd.Context(), cfg.HTTP.Listen)
	if err != nil {
		return err
	}
	log.Info("serving", zap.String("url", httpserver.URL(listener)))
	return httpserver.Serve(cmd.Context(), listener, Handler(catalog, db, conn, log))
}

// binding serves with an unbound catalogue until the database has tables for
// it: the API may be started before `weir apply`.
type binding struct {
	catalog *definition.Catalog
	db      *store.DB
	handler func(*definition.Catalog) http.Handler
	bound   atomic.Pointer[http.Handler]
}

func (b *binding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if bound := b.bound.Load(); bound != nil {
		(*bound).ServeHTTP(w, r)
		return
	}
	catalog, err := wire.Bind(r.Context(), b.catalog, b.db)
	if err != nil { // the handler says it better, for each question
		b.handler(b.catalog).ServeHTTP(w, r)
		return
	}
	handler := b.handler(catalog)
	b.bound.Store(&handler)
	handler.ServeHTTP(w, r)
}

// Handler returns the HTTP API over what is given to it, with /healthz and
// /readyz.
func Handler(catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) http.Handler {
	through := func(ctx context.Context) (time.Time, error) {
		state, err := conn.State(ctx)
		return state.CompleteThrough, err
	}
	questions := &binding{catalog: catalog, db: db, handler: func(catalog *definition.Catalog) http.Handler {
		return query.NewHandler(query.Server{
			Catalog: catalog,
			DB:      db,
			State:   through,
			OnError: func(r *http.Request, err error) {
				log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
			},
		})
	}}
	probes := health.Handler(wire.Ready(catalog, db, conn))
	mux := http.NewServeMux()
	mux.Handle("/", questions)
	mux.Handle("/healthz", probes)
	mux.Handle("/readyz", probes)
	return mux
}
