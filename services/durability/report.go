package durability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir durability`.
func Command() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "durability",
		Short: "Say what the servers keep through crashes and power cuts",
		Long: `Ask Postgres and NATS for the settings that the promise rests on: what was acknowledged is kept, and counted once. Every
line has what was found, and the promise that rests on it; ok, LESS than the promise, unknown, or a note. The exit code is 1
where something is less. How often NATS writes to its disks no client can see: give the address of its monitoring port.`,
		Example: `  weir durability --nats nats://localhost:4222 --nats-monitor http://localhost:8222 --postgres postgres://weir:secret@localhost/weir`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd)
			if err != nil {
				return err
			}
			db, err := wire.Store(cmd.Context(), cfg, "durability")
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			conn, err := wire.Stream(cmd.Context(), cfg, "durability", config.Logger(cfg))
			if err != nil {
				return err
			}
			defer conn.Close()
			found, err := Find(cmd.Context(), db, conn, OfMonitors(cmd.Context(), cfg))
			if err != nil {
				return err
			}
			return show(cmd, found, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one finding a line")
	config.Flags(cmd, config.NATS, config.Postgres)
	return cmd
}

func show(cmd *cobra.Command, found []Finding, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for _, f := range found {
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
	} else {
		lines := [][]string{{"", "what", "is", "promise"}}
		for _, f := range found {
			lines = append(lines, []string{string(f.Verdict), f.What, f.Is, f.Promise})
		}
		if err := query.WriteAligned(out, lines, []bool{false, false, false, false}); err != nil {
			return err
		}
		for _, f := range found {
			if f.Advice != "" {
				_, _ = fmt.Fprintf(out, "\n%s: %s\n", f.What, f.Advice)
			}
		}
	}
	if less := len(LessThanPromised(found)); less > 0 {
		verb := "are"
		if less == 1 {
			verb = "is"
		}
		return fmt.Errorf("%d of %d %s less than the promise", less, len(found), verb)
	}
	return nil
}

// Find asks both servers.
func Find(ctx context.Context, db *store.DB, conn *stream.Conn, s Sync) ([]Finding, error) {
	postgres, err := db.Durability(ctx)
	if err != nil {
		return nil, err
	}
	nats, err := conn.Durability(ctx)
	if err != nil {
		return nil, err
	}
	return append(OfPostgres(postgres), OfNATS(nats, s)...), nil
}

// OfMonitors is what the monitoring ports of the settings say; clients see nothing of it.
func OfMonitors(ctx context.Context, cfg config.Config) Sync {
	return askMonitors(ctx, string(cfg.NATS.Monitor))
}

// Report logs once, at the start of a role that folds, what is less than the
// promise. It is an error only where nothing could be folded: the database is a
// standby. What cannot be asked does not keep a role from starting.
func Report(ctx context.Context, db *store.DB, conn *stream.Conn, s Sync, log *zap.Logger) error {
	postgres, err := db.Durability(ctx)
	if err == nil && postgres.Standby {
		return errors.New(standbyAdvice)
	}
	found, err := Find(ctx, db, conn, s)
	if errors.Is(err, stream.ErrNotProvisioned) || ctx.Err() != nil {
		return nil //nolint:nilerr // the role itself says so
	}
	if err != nil {
		log.Warn("what the servers keep through a power cut is not known", zap.Error(err))
		return nil
	}
	for _, f := range LessThanPromised(found) {
		log.Warn("less durable than promised: "+f.Advice, zap.String("setting", f.What), zap.String("is", f.Is))
	}
	log.Info("NATS syncs to disk", zap.Stringer("sync_interval", s))
	return nil
}
