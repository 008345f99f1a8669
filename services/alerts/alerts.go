// Package alerts is `weir alerts`: what was alerted on, and what is alerted on
// as it comes.
package alerts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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
		Long: `List the newest alerts, the newest last, of the HTTP API or, with --postgres, of the database. With --follow,
print the alerts that come from now on as a subscriber of NATS receives them, until interrupted.`,
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
			alerts, err := newest(cmd, cfg, f)
			if err != nil {
				return err
			}
			slices.Reverse(alerts) // the newest where a terminal ends
			if f.json {
				return printJSON(cmd.OutOrStdout(), alerts...)
			}
			return printTable(cmd.OutOrStdout(), alerts)
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
	config.Flags(cmd, config.API, config.NATS, config.Definitions)
	cmd.AddCommand(testCommand())
	return cmd
}

// newest returns alerts, newest first.
func newest(cmd *cobra.Command, cfg config.Config, f filter) ([]alert.Alert, error) {
	if f.postgres == "" {
		client := query.Client{URL: string(cfg.HTTP.URL)}
		return client.Alerts(cmd.Context(), f.rule, f.scope, f.state, f.limit)
	}
	if err := f.check(cfg); err != nil {
		return nil, err
	}
	cfg.Postgres.URL = config.URL(f.postgres)
	db, err := wire.Store(cmd.Context(), cfg, "alerts")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	alerts, err := db.Alerts(cmd.Context(), store.AlertFilter{Rule: f.rule, Scope: f.scope, State: f.state, Limit: f.limit})
	return alerts, wire.Explain(err)
}

// check refuses what no alert can have; the API does the same.
func (f filter) check(cfg config.Config) error {
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	rules := make([]string, len(catalog.Rules))
	for i, rule := range catalog.Rules {
		rules[i] = rule.Name
	}
	var problems config.Problems
	for _, choice := range []struct {
		flag, given, hint string
		words             []string
	}{
		{"--rule", f.rule, "; give --streams DIR for the rules of other definitions", rules},
		{"--scope", f.scope, "", []string{string(alert.ScopeLocal), string(alert.ScopeGlobal)}},
		{"--state", f.state, "", []string{string(alert.Firing), string(alert.Resolved)}},
	} {
		if choice.given != "" && !slices.Contains(choice.words, choice.given) {
			problems = append(problems, fmt.Sprintf("%s: there is no %q; there are: %s%s",
				choice.flag, choice.given, strings.Join(choice.words, ", "), choice.hint))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// follow prints alerts as they are published, until the command's context
// ends.
func follow(cmd *cobra.Command, cfg config.Config, f filter) error {
	if err := f.check(cfg); err != nil {
		return err
	}
	conn, err := wire.Stream(cmd.Context(), cfg, "alerts", config.Logger(cfg))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "following alerts.%s.%s from now on\n", cmp.Or(f.scope, "*"), cmp.Or(f.rule, ">"))
	return conn.SubscribeAlerts(cmd.Context(), stream.AlertFilter{Scope: f.scope, Rule: f.rule}, func(m stream.AlertMessage) {
		var a alert.Alert
		err := json.Unmarshal(m.Data, &a)
		if err == nil && (f.state == "" || f.state == string(a.State)) {
			err = printOne(cmd.OutOrStdout(), f, a)
		}
		if err != nil { // the next one may be readable
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "alert %q: %v\n", m.MsgID, err)
		}
	})
}

// printOne writes an alert of which the next is not known.
func printOne(w io.Writer, f filter, a alert.Alert) error {
	if f.json {
		return printJSON(w, a)
	}
	return query.WriteAligned(w, [][]string{cells(&a)}, make([]bool, len(columns())))
}

func printTable(w io.Writer, alerts []alert.Alert) error {
	lines := [][]string{columns()}
	for i := range alerts {
		lines = append(lines, cells(&alerts[i]))
	}
	return query.WriteAligned(w, lines, make([]bool, len(columns())))
}

func columns() []string {
	return []string{"fired_at", "scope", "state", "severity", "rule", "message"}
}

func cells(a *alert.Alert) []string {
	return []string{
		a.FiredAt.UTC().Format(time.RFC3339), string(a.Scope), string(a.State), strconv.Itoa(a.Severity), a.Rule, a.Message,
	}
}

// printJSON writes an alert a line.
func printJSON(w io.Writer, alerts ...alert.Alert) error {
	encoder := json.NewEncoder(query.TerminalJSON(w))
	encoder.SetEscapeHTML(false)
	for i := range alerts {
		if err := encoder.Encode(&alerts[i]); err != nil {
			return err
		}
	}
	return nil
}
