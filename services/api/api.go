// Package api is `weir api`: the role that answers questions over HTTP.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
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
	listener, err := net.Listen("tcp", cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	log.Info("serving", zap.String("url", "http://"+listener.Addr().String()))
	return Serve(cmd.Context(), listener, Handler(catalog, db, conn, log))
}

// Handler returns the HTTP API over what is given to it.
func Handler(catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) http.Handler {
	through := func(ctx context.Context) (time.Time, error) {
		state, err := conn.State(ctx)
		return state.CompleteThrough, err
	}
	return query.NewHandler(query.Server{
		Catalog: catalog,
		DB:      db,
		State:   through,
		Ready: []query.Check{
			{Name: "postgres", Check: db.Ping},
			{Name: "tables", Check: func(ctx context.Context) error {
				missing, err := db.Missing(ctx, catalog.Aggregations)
				if err == nil && missing != "" {
					err = errors.New(missing)
				}
				return err
			}},
			{Name: "nats", Check: func(ctx context.Context) error {
				_, err := conn.State(ctx)
				return err
			}},
		},
		OnError: func(r *http.Request, err error) {
			log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		},
	})
}

const (
	requestTimeout = 10 * time.Second // to send a request
	answerTimeout  = 2 * time.Minute  // to work out an answer and receive it
	drainTimeout   = 10 * time.Second // to finish what is in hand at the end
)

// Serve answers requests on the listener until ctx ends, finishes those in
// hand, and closes the listener.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       answerTimeout,
		MaxHeaderBytes:    64 << 10,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close() // whoever is still served has had their time
		}
		stopped <- err
	})
	err := server.Serve(listener)
	if !stop() { // Serve returns at once; Shutdown waits for what is in hand
		err = <-stopped
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}
