// Package api is `weir api`: the role that answers questions over HTTP and NATS.
package api

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/audit"
	"weir/pkg/dashboard"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/health"
	"weir/services/httpserver"
	"weir/services/metrics"
	"weir/services/version"
	"weir/services/wire"
)

// Command is `weir api`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Answer questions over HTTP and NATS",
		Long: `Serve the HTTP API: questions to the aggregations, alerts and silences, dead letters, /healthz, /readyz and /metrics (Prometheus); and
the service weir-query over NATS, which answers the same questions at weir.query and weir.aggregations. Any number may run.
It may be started before Postgres and NATS are: until they answer, /readyz says what is missing. On SIGTERM requests in hand
are answered first.`,
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
	listener, err := httpserver.Listen(cmd.Context(), cfg.HTTP.Listen)
	if err != nil {
		return err
	}
	return serveOnceConnected(cmd.Context(), listener, catalog, cfg, config.Logger(cfg))
}

// serveOnceConnected is Serve, with answers that say so until there are connections.
func serveOnceConnected(ctx context.Context, listener net.Listener, catalog *definition.Catalog, cfg config.Config, log *zap.Logger) error {
	var links wire.Links
	defer links.Close()
	registry := metrics.New("api")
	registry.Links(&links)
	front := newFront(links.Ready(catalog), registry)
	roles, ctx := errgroup.WithContext(ctx)
	roles.Go(func() error { return httpserver.Serve(ctx, listener, registry.Count(front)) })
	roles.Go(func() error {
		db, conn, err := links.Open(ctx, cfg, "api", log)
		if err != nil {
			return wire.UnlessStopped(ctx, err)
		}
		questions := newBinding(ctx, catalog, db, conn, log)
		front.put(handler(questions, conn, registry))
		log.Info("serving", zap.String("url", httpserver.URL(listener)), zap.String("nats", query.QuestionSubject))
		return conn.Serve(ctx, service(questions, conn))
	})
	return roles.Wait()
}

// Serve answers questions over HTTP, at the listener, and over NATS until ctx
// ends, and then what is in hand. At /metrics is what the process tells Prometheus.
func Serve(
	ctx context.Context, listener net.Listener, catalog *definition.Catalog, db *store.DB, conn *stream.Conn, registry *metrics.Registry, log *zap.Logger,
) error {
	roles, ctx := errgroup.WithContext(ctx)
	questions := newBinding(ctx, catalog, db, conn, log)
	roles.Go(func() error {
		return httpserver.Serve(ctx, listener, registry.Count(handler(questions, conn, registry)))
	})
	roles.Go(func() error { return conn.Serve(ctx, service(questions, conn)) })
	return roles.Wait()
}

// service is the API over NATS.
func service(questions *binding, conn *stream.Conn) stream.Service {
	return stream.Service{
		Name: query.MessageService, Version: version.Semantic(), Description: "Answers questions to Weir's aggregations, as its HTTP API does",
		Endpoints: []stream.Endpoint{
			{Name: "query", Subject: query.QuestionSubject, Answer: func(ctx context.Context, request []byte) ([]byte, error) {
				answer, problem, refused := questions.get(ctx).Message(ctx, request, conn.MaxPayload())
				if refused != nil {
					return nil, &stream.Refusal{Code: refused.Status, Detail: refused.Detail, Body: problem}
				}
				return answer, nil
			}},
			{Name: "aggregations", Subject: query.CatalogueSubject, Answer: func(ctx context.Context, _ []byte) ([]byte, error) {
				return questions.get(ctx).Catalogue(), nil
			}},
		},
	}
}

// binding answers with an unbound catalogue until the database has tables for
// it: the API may be started before `weir apply`.
type binding struct {
	unbound *answering
	bound   atomic.Pointer[answering]
	conn    *stream.Conn
}

// answering is a catalogue's side of the API, and the same over HTTP, with the
// dashboard.
type answering struct {
	query.Server

	http http.Handler
}

func newAnswering(server query.Server, conn *stream.Conn) *answering {
	api := query.NewHandler(server)
	mux := http.NewServeMux()
	mux.Handle("/api/", api)
	mux.Handle("/openapi.json", api)
	mux.Handle("/", dashboard.Handler(dashboard.Config{
		Server: server,
		Stream: query.Recently(time.Second, conn.State),
		Audit:  server.Audit,
	}))
	return &answering{server, mux}
}

// newBinding answers until ctx ends; by itself that ends only what never would,
// the streams of alerts.
func newBinding(ctx context.Context, catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) *binding {
	server := query.Server{
		Catalog: catalog,
		DB:      db,
		Done:    ctx.Done(),
		State: query.Recently(time.Second, func(ctx context.Context) (time.Time, error) {
			state, err := conn.State(ctx)
			if err == nil {
				db.Yield(state.Pending > 0)
			}
			return state.CompleteThrough, err
		}),
		// It counts the ledger, which takes longer the more there was.
		Audit: query.Recently(10*time.Second, func(ctx context.Context) (*audit.Report, error) {
			return audit.New(db.Pool(), conn, audit.Config{Version: version.String()}).Report(ctx)
		}),
		OnError: func(request string, err error) {
			log.Error("request failed", zap.String("request", request), zap.Error(err))
		},
	}
	return &binding{unbound: newAnswering(server, conn), conn: conn}
}

func (b *binding) get(ctx context.Context) *answering {
	if bound := b.bound.Load(); bound != nil {
		return bound
	}
	server := b.unbound.Server
	catalog, err := wire.Bind(ctx, server.Catalog, server.DB)
	if err != nil { // the answer to each question says it better
		return b.unbound
	}
	server.Catalog = catalog
	bound := newAnswering(server, b.conn)
	b.bound.Store(bound)
	return bound
}

func (b *binding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.get(r.Context()).http.ServeHTTP(w, r)
}

// handler is the HTTP API with /healthz, /readyz and /metrics.
func handler(questions *binding, conn *stream.Conn, registry *metrics.Registry) http.Handler {
	server := questions.unbound.Server
	probes := health.Handler(wire.NewLinks(server.DB, conn).Ready(server.Catalog))
	mux := http.NewServeMux()
	mux.Handle("/", questions)
	mux.Handle("/healthz", probes)
	mux.Handle("/readyz", probes)
	mux.Handle("GET /metrics", registry.Handler())
	return mux
}
