// Package gateway is `weir gateway`: events in over HTTP, or simulated, out
// to the stream.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/health"
	"weir/services/httpserver"
	"weir/services/metrics"
	"weir/services/wire"
)

type options struct {
	source   string
	listen   string
	simulate float64
	seed     uint64
}

// Command is `weir gateway`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Take events over HTTP and publish them; or simulate a gateway",
		Long: `Take events at POST /api/v1/events/{type} for gateways that speak no NATS, and publish them under --source. An
event is acknowledged (202) only when the stream has stored it. The answer lists events that break the definition of
their stream and will be dead letters; of a body without any valid event nothing is published (422). With --simulate,
traffic is made up as well; every such event is labelled as generated.

A body of HTTP is one message, so whoever sends it decides how many events a message has: many, if they can. Of events that are made up
--batch-events, --batch-bytes and --linger decide, whichever is reached first. --max-in-flight and --compression hold for both; beyond
that many messages that the stream has not acknowledged a request waits, and is answered with 503 after 10 seconds.

At the same address, /healthz answers while the process serves, /readyz when NATS answers and has the stream, and
/metrics is for Prometheus.
For that the gateway's credential must be allowed to ask for the state of stream and consumer.`,
		Example: `  weir gateway --source edge-1 --listen :8081
  weir gateway --source edge-2 --compression zstd --max-in-flight 64
  weir gateway --source gw-1 --simulate 500 --batch-events 20 --linger 100ms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	config.Flags(cmd, config.NATS, config.Definitions, config.Publisher, config.Unused)
	cmd.Flags().StringVar(&o.source, "source", "gateway", "`name` of this gateway, a token of its subjects")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8081", "`address` to take events at, host:port")
	cmd.Flags().Float64Var(&o.simulate, "simulate", 0, "also make up `n` events a second")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of the made up traffic")
	return cmd
}

func run(cmd *cobra.Command, o options) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	log := config.Logger(cfg)
	conn, err := wire.Stream(cmd.Context(), cfg, "gateway "+o.source, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	ingest, err := gateway.NewIngest(conn, publisherConfig(cfg, o.source), catalog.Streams)
	if err != nil {
		return err
	}
	// Without the stream nothing could be stored, but tried again for ever. Other errors do not matter here: a
	// gateway's credential need not be allowed to ask.
	if _, err := conn.State(cmd.Context()); errors.Is(err, stream.ErrNotProvisioned) {
		return err
	}
	listener, err := httpserver.Listen(cmd.Context(), o.listen)
	if err != nil {
		return err
	}
	log.Info("gateway listens", zap.String("address", listener.Addr().String()))
	group, ctx := errgroup.WithContext(cmd.Context())
	defer ingest.Close(context.WithoutCancel(cmd.Context()))
	registry := metrics.New("gateway")
	registry.MustRegister(ingest)
	registry.Stream(conn)
	group.Go(func() error { return httpserver.Serve(ctx, listener, handler(ingest, conn, registry)) })
	if o.simulate > 0 {
		publisher, err := gateway.NewPublisher(conn, publisherConfig(cfg, o.source))
		if err != nil {
			return err
		}
		registry.MustRegister(gateway.Publishers{publisher})
		group.Go(func() error { return simulate(ctx, publisher, o) })
	}
	return group.Wait()
}

// check refuses flags that could only fail later, or do nothing without a word.
func (o options) check() error {
	var problems config.Problems
	if !stream.ValidToken(o.source) {
		problems = append(problems, fmt.Sprintf("--source: %q is no token: 1 to 128 printable ASCII characters without space . * > /", o.source))
	}
	if o.simulate < 0 || math.IsNaN(o.simulate) || math.IsInf(o.simulate, 0) {
		problems = append(problems, fmt.Sprintf("--simulate: %v should be a number of events, 0 or more", o.simulate))
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// handler takes events and answers for the health of the role.
func handler(ingest *gateway.Ingest, conn *stream.Conn, registry *metrics.Registry) http.Handler {
	checks := health.Handler([]health.Check{{Name: "nats", Check: func(ctx context.Context) error {
		_, err := conn.State(ctx)
		return err
	}}})
	mux := http.NewServeMux()
	mux.Handle("/healthz", checks)
	mux.Handle("/readyz", checks)
	mux.Handle("GET /metrics", registry.Handler())
	mux.Handle("/", ingest.Handler())
	return registry.Count(mux)
}

// publisherConfig is how events of the source become messages.
func publisherConfig(cfg config.Config, source string) gateway.PublisherConfig {
	p := cfg.Publisher
	return gateway.PublisherConfig{
		Source: source, BatchEvents: p.BatchEvents, BatchBytes: int(p.BatchBytes), Linger: p.Linger,
		MaxInFlight: p.MaxInFlight, Compression: p.Compression,
	}
}

func simulate(ctx context.Context, publisher *gateway.Publisher, o options) error {
	err := gateway.NewSimulator(gateway.SimulatorConfig{Source: o.source, Rate: o.simulate, Seed: o.seed}).Run(ctx, publisher)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if closed := publisher.Close(last); err == nil {
		err = closed
	}
	return err
}
