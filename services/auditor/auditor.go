// Package auditor is `weir auditor`: the role that proves, all the time, that
// every event is counted once.
package auditor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/audit"
	"weir/services/config"
	"weir/services/health"
	"weir/services/metrics"
	"weir/services/version"
	"weir/services/wire"
)

// Command is `weir auditor`.
func Command() *cobra.Command {
	every := 10 * time.Second
	cmd := &cobra.Command{
		Use:   "auditor",
		Short: "Prove all the time that every event is counted once",
		Long: `Compare, every few seconds, what publishers were told is stored with the stream, the stream with the ledger, and the ledger
with the rows of every aggregation and granularity, in number and by checksums. A message that was acknowledged and is not
folded is given to the workers again. Once a day, and when it starts, it plants faults in tables of its own and looks whether it finds
them; once an hour, and when it starts, it verifies the chain of certificates. Any number may run; one works at a time. "weir audit"
shows the proof.

With --health it answers /healthz, /readyz and /metrics (Prometheus) at that address.`,
		Example: `  weir auditor --nats nats://localhost:4222 --postgres postgres://weir:secret@localhost/weir --health 0.0.0.0:8081`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd, every) },
	}
	cmd.Flags().DurationVar(&every, "every", every, "`time` from one pass to the next")
	config.Flags(cmd, config.NATS, config.Postgres, config.Health, config.Definitions)
	return cmd
}

func run(cmd *cobra.Command, every time.Duration) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	if every < time.Second || every > time.Hour {
		return config.Problems{fmt.Sprintf("--every: %s should be 1s to 1h", every)}
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	log := config.Logger(cfg)
	probes, err := health.Listen(cmd.Context(), cfg, "auditor", log)
	if err != nil {
		return err
	}
	defer probes.Close()
	var links wire.Links
	defer links.Close()
	status := NewStatus()
	roles, ctx := errgroup.WithContext(cmd.Context())
	roles.Go(func() error {
		_, conn, err := links.Open(ctx, cfg, "auditor", log)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		pool, err := wire.Pool(ctx, cfg, "auditor")
		if err != nil {
			return err
		}
		defer func() { _ = pool.Close() }()
		return Run(ctx, audit.New(pool, conn, audit.Config{Version: version.String(), Budget: every / 5}), every, status, log)
	})
	registry := metrics.New("auditor")
	registry.MustRegister(status)
	registry.Links(&links)
	roles.Go(func() error { return probes.Serve(ctx, registry.Probes(links.Ready(catalog))) })
	return roles.Wait()
}

// Run makes a pass after another until ctx ends, and keeps status up to date. A
// server that is away is tried again with the next pass.
func Run(ctx context.Context, auditor *audit.Auditor, every time.Duration, status *Status, log *zap.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var said map[[2]string]told
	for {
		report, err := auditor.Pass(ctx)
		if errors.Is(err, audit.ErrBusy) {
			report, err = auditor.Report(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Warn("a pass of the auditor failed", zap.Error(err))
		}
		if report != nil { // of what could be verified
			said = tell(log, report, said)
		}
		status.set(report, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// told is what was logged of a finding. Its detail is no part of it: that has
// running totals.
type told struct{ lost, duplicated int64 }

// tell logs what does not add up once, and again when it is more or less; and
// that all does again.
func tell(log *zap.Logger, r *audit.Report, before map[[2]string]told) map[[2]string]told {
	now := map[[2]string]told{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !f.Residue() {
			continue
		}
		key, what := [2]string{f.Kind, f.Subject}, told{f.Lost, f.Duplicated}
		now[key] = what
		if was, known := before[key]; !known || was != what {
			log.Error("the audit does not add up", zap.Int64("finding", f.ID), zap.String("detail", f.Detail))
		}
	}
	if len(before) > 0 && len(now) == 0 {
		log.Info("the audit adds up again", zap.String("audit", r.Sentence()))
	}
	return now
}
