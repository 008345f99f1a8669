// Package alerts is `weir alerts`: what was alerted on, and what is alerted on
// as it comes.
package alerts

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
)

// filter is what the flags choose.
type filter struct {
	rule, scope, state string
	limit              int
	json, follow       bool
	postgres           string
}

// Command is `weir alerts`.
func Command() *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "alerts [list]",
		Short: "List alerts, or follow them as they come",
		Long: `List the newest alerts, of the HTTP API or, with --postgres, of the database. With --follow, print the alerts
that come from now on as a subscriber of NATS receives them, until interrupted.`,
		Example: `  weir alerts --rule tier-crossing --limit 20
  weir alerts --follow --scope local`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"list"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd)
			if err != nil {
				return err
			}
			if f.follow {
				return follow(cmd, cfg, f)
			}
			alerts, err := list(cmd, cfg, f)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), f, alerts...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.rule, "rule", "", "only of this `rule`")
	flags.StringVar(&f.scope, "scope", "", "only of this `scope`: local or global")
	flags.StringVar(&f.state, "state", "", "only in this `state`: firing or resolved")
	flags.IntVar(&f.limit, "limit", 100, "list at most this `number`")
	flags.BoolVar(&f.json, "json", false, "print JSON, one alert a line")
	flags.BoolVarP(&f.follow, "follow", "f", false, "print alerts as they come")
	flags.StringVar(&f.postgres, "postgres", "", "list those of the database at this `URL`, not of the HTTP API")
	cmd.MarkFlagsMutuallyExclusive("follow", "postgres")
	config.Flags(cmd, config.API, config.NATS)
	return cmd
}

// list returns the newest alerts, the newest last, where a terminal ends.
func list(cmd *cobra.Command, cfg config.Config, f filter) ([]alert.Alert, error) {
	alerts, err := newest(cmd, cfg, f)
	slices.Reverse(alerts)
	return alerts, err
}

func newest(cmd *cobra.Command, cfg config.Config, f filter) ([]alert.Alert, error) {
	if f.postgres == "" {
		client := query.Client{URL: string(cfg.HTTP.URL)}
		return client.Alerts(cmd.Context(), f.rule, f.scope, f.state, f.limit)
	}
	cfg.Postgres.URL = config.URL(f.postgres)
	db, err := wire.Store(cmd.Context(), cfg, "alerts")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	return db.Alerts(cmd.Context(), store.AlertFilter{Rule: f.rule, Scope: f.scope, State: f.state, Limit: f.limit})
}

// follow prints alerts as they are published, until the command's context
// ends.
func follow(cmd *cobra.Command, cfg config.Config, f filter) error {
	conn, err := wire.Stream(cmd.Context(), cfg, "alerts", config.Logger(cfg))
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.SubscribeAlerts(cmd.Context(), stream.AlertFilter{Scope: f.scope, Rule: f.rule}, func(m stream.AlertMessage) {
		var a alert.Alert
		err := json.Unmarshal(m.Data, &a)
		if err == nil && (f.state == "" || f.state == string(a.State)) {
			err = show(cmd.OutOrStdout(), f, a)
		}
		if err != nil { // the next one may be readable
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "alert %s: %v\n", m.MsgID, err)
		}
	})
}

// show writes alerts for people, or as JSON.
func show(w io.Writer, f filter, alerts ...alert.Alert) error {
	if f.json {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		for i := range alerts {
			if err := encoder.Encode(&alerts[i]); err != nil {
				return err
			}
		}
		return nil
	}
	var lines [][]string
	for i := range alerts {
		a := &alerts[i]
		lines = append(lines, []string{
			a.FiredAt.UTC().Format(time.RFC3339), string(a.Scope), string(a.State), strconv.Itoa(a.Severity), a.Rule, a.Message,
		})
	}
	return query.WriteAligned(w, lines, make([]bool, 6))
}
