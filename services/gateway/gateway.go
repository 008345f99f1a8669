// Package gateway is `weir gateway`: events in over HTTP, or simulated, out
// to the stream.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/config"
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
event is acknowledged (202) only when the stream has stored it. With --simulate, traffic is made up as well; every
such event is labelled as generated.`,
		Example: `  weir gateway --source edge-1 --listen :8081
  weir gateway --source gw-1 --simulate 500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	config.Flags(cmd, config.NATS)
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
	log := config.Logger(cfg)
	conn, err := wire.Stream(cmd.Context(), cfg, "gateway "+o.source, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	ingest, err := gateway.NewIngest(conn, o.source)
	if err != nil {
		return config.Problems{"--source: " + err.Error()}
	}
	// Without the stream nothing could be stored, but tried again for ever. Other errors do not matter here: a
	// gateway's credential need not be allowed to ask.
	if _, err := conn.State(cmd.Context()); errors.Is(err, stream.ErrNotProvisioned) {
		return err
	}
	group, ctx := errgroup.WithContext(cmd.Context())
	group.Go(func() error { return serve(ctx, o.listen, ingest.Handler(), log) })
	if o.simulate > 0 {
		group.Go(func() error { return simulate(ctx, conn, o) })
	}
	return group.Wait()
}

// serve runs an HTTP server until ctx ends, and lets requests under way finish.
func serve(ctx context.Context, address string, handler http.Handler, log *zap.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("gateway listens", zap.String("address", listener.Addr().String()))
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(last)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-stopped
}

func simulate(ctx context.Context, conn *stream.Conn, o options) error {
	publisher, err := gateway.NewPublisher(conn, gateway.PublisherConfig{Source: o.source})
	if err != nil {
		return err
	}
	err = gateway.NewSimulator(gateway.SimulatorConfig{Source: o.source, Rate: o.simulate, Seed: o.seed}).Run(ctx, publisher)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if closed := publisher.Close(last); err == nil {
		err = closed
	}
	return err
}
