// Package alerts is `weir alerts`: what was alerted on, what is alerted on as it
// comes, and what people do about it.
package alerts

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir alerts`, which by itself is `weir alerts list`.
func Command() *cobra.Command {
	cmd := listCommand()
	cmd.Use = "alerts"
	cmd.Short = "Show alerts, acknowledge and silence them, or follow them as they come"
	cmd.Long = `What was alerted on, and what people do about it. By itself it is "weir alerts list".

` + cmd.Long
	cmd.AddCommand(listCommand(), showCommand(), boardCommand(), ackCommand(), silenceCommand(), unsilenceCommand(), silencesCommand(), testCommand())
	return cmd
}

// chosen is what the flags of a list choose.
type chosen struct {
	rule, scope, state, severity, since, until string
	key                                        []string
	limit                                      int
	follow                                     bool
}

func listCommand() *cobra.Command {
	var c chosen
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the newest alerts, the newest last, or follow them as they come",
		Long: `List the newest alerts, the newest last, of the HTTP API or, with --postgres, of the database. With --follow,
print the alerts that come from now on as a subscriber of NATS receives them, until interrupted.

--state firing lists what fires now, and, of local alerts, which are never resolved, all; resolved lists the alerts that
say that something is over. --since and --until are times, in UTC without offset, or how long ago.`,
		Example: `  weir alerts list --state firing --severity 2
  weir alerts list --rule tier-crossing --key apiName=Shop --since 2h
  weir alerts list --follow --scope local`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.follow {
				return follow(cmd, c)
			}
			return list(cmd, c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.rule, "rule", "", "only of this `rule`")
	flags.StringVar(&c.scope, "scope", "", "only of this `scope`: local or global")
	flags.StringVar(&c.state, "state", "", "only in this `state`: firing, resolved or all; by default all")
	flags.StringVar(&c.severity, "severity", "", "only of this `severity` or more severe: 1 severe, 2 moderate, 3 mild")
	flags.StringArrayVar(&c.key, "key", nil, "only with this `part` in their key, as apiName=Shop; several must all be there")
	flags.StringVar(&c.since, "since", "", "only fired at or after this `time`, as 2h or 2026-11-22T10:00:00Z")
	flags.StringVar(&c.until, "until", "", "only fired before this `time`")
	flags.IntVar(&c.limit, "limit", 100, "list at most this `number`")
	flags.BoolVarP(&c.follow, "follow", "f", false, "print alerts as they come")
	cmd.MarkFlagsMutuallyExclusive("follow", "since")
	cmd.MarkFlagsMutuallyExclusive("follow", "until")
	commonFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("follow", "postgres")
	config.Flags(cmd, config.API, config.NATS, config.Definitions)
	complete.Rule(cmd, "rule")
	complete.Words(cmd, "scope", string(alert.ScopeLocal), string(alert.ScopeGlobal))
	complete.Words(cmd, "state", string(alert.Firing), string(alert.Resolved), store.StateAll)
	complete.Words(cmd, "severity", "1", "2", "3")
	return cmd
}

// values are the flags as parameters of the API.
func (c *chosen) values() url.Values {
	values := url.Values{"key": c.key, "limit": {strconv.Itoa(c.limit)}}
	for name, value := range map[string]string{
		"rule": c.rule, "scope": c.scope, "state": c.state, "severity": c.severity, "since": c.since, "until": c.until,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// filter is what the flags choose by the definitions of a configuration.
func (c *chosen) filter(cfg config.Config) (store.AlertFilter, error) {
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return store.AlertFilter{}, err
	}
	f, err := query.ParseAlerts(catalog, c.values(), time.Now())
	var refused *query.Error
	if !errors.As(err, &refused) {
		return f, err
	}
	var problems config.Problems
	for line := range strings.Lines(refused.Detail) { // each begins with the name of a parameter
		problem := "--" + strings.TrimSpace(line)
		if strings.HasPrefix(line, "rule:") {
			problem += "; give --streams DIR for the rules of other definitions"
		}
		problems = append(problems, problem)
	}
	return f, problems
}

func list(cmd *cobra.Command, c chosen) error {
	var f store.AlertFilter
	cfg, err := config.Load(cmd)
	if err == nil && cmd.Flags().Changed("postgres") { // the API looks itself
		f, err = c.filter(cfg)
	}
	if err != nil {
		return err
	}
	var alerts []alert.Alert
	err = ask(cmd, func(client *query.Client) (err error) {
		alerts, err = client.AlertsBy(cmd.Context(), c.values())
		return err
	}, func(_ *definition.Catalog, db *store.DB) (err error) {
		alerts, err = db.Alerts(cmd.Context(), f)
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(alerts) // the newest where a terminal ends
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), alerts...)
	}
	return printTable(cmd.OutOrStdout(), alerts)
}

// commonFlags are those of every command.
func commonFlags(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "print JSON, one object a line")
	cmd.Flags().String("postgres", "", "ask the database at this `URL`, not the HTTP API")
}

// byFlag is who does something.
func byFlag(cmd *cobra.Command, by *string) {
	cmd.Flags().StringVar(by, "by", wire.Person(), "who says so, a `name`")
}

// ask asks the API, or the database if --postgres is given.
func ask(cmd *cobra.Command, api func(*query.Client) error, database func(*definition.Catalog, *store.DB) error) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	f := cmd.Flags().Lookup("postgres")
	if !f.Changed {
		return api(&query.Client{URL: string(cfg.HTTP.URL)})
	}
	cfg.Postgres.URL = config.URL(f.Value.String())
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	db, err := wire.Store(cmd.Context(), cfg, "alerts")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return wire.Explain(database(catalog, db))
}

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of one alert",
		Long: `Show all that is known of one alert, by its id or the beginning of it: its key, what it says, when it was resolved,
whether somebody has acknowledged it, the silences that keep quiet about it now, and what notifiers have done.`,
		Example: `  weir alerts show 3f2a9c
  weir alerts show 3f2a9c --json | jq .alert.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var known query.Alert
			err := ask(cmd, func(client *query.Client) (err error) {
				known, err = client.Alert(cmd.Context(), args[0])
				return err
			}, func(_ *definition.Catalog, db *store.DB) (err error) {
				known, err = query.DescribeAlert(cmd.Context(), db, args[0], time.Now())
				return err
			})
			if err != nil {
				return err
			}
			return printAlert(cmd, &known)
		},
	}
	commonFlags(cmd)
	config.Flags(cmd, config.API)
	return cmd
}

func ackCommand() *cobra.Command {
	var by, comment string
	cmd := &cobra.Command{
		Use:   "ack ID",
		Short: "Say that an alert is looked after",
		Long: `Say that an alert is looked after, by its id or the beginning of it. It fires on as before, and everybody sees who looks
after it; to say so again replaces what was said. To acknowledge that something is over is to acknowledge what had fired.`,
		Example: `  weir alerts ack 3f2a9c --comment "restarting the backend"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var known query.Alert
			err := ask(cmd, func(client *query.Client) (err error) {
				known, err = client.AckAlert(cmd.Context(), args[0], by, comment)
				return err
			}, func(_ *definition.Catalog, db *store.DB) (err error) {
				known, err = query.AckAlert(cmd.Context(), db, args[0], alert.Ack{By: by, Comment: comment, At: time.Now()})
				return err
			})
			if err == nil && known.Ack == nil {
				err = errors.New("the alert was acknowledged, and is gone since")
			}
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), known)
			}
			return printLine(cmd, fmt.Sprintf("acknowledged by %s: %s", known.Ack.By, known.Alert.Message))
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "what is done about it, a `text`")
	byFlag(cmd, &by)
	commonFlags(cmd)
	config.Flags(cmd, config.API)
	return cmd
}
