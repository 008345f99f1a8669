// Package thresholds is `weir thresholds`: the bounds of alert rules, by API,
// application and tenant, while everything runs.
package thresholds

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir thresholds`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "thresholds",
		Short: "Set the thresholds of alert rules while everything runs",
		Long: `A threshold that is set stands in place of the rule's own, for the keys that have the given API, version, resource, method,
application and tenant; those that are not given may be any. Of several that hold for a key the one with the most of these decides,
then the one that has what comes first in this order, then one of the case before one for all cases. One that is set goes before
those that are learned. Workers go by it within two seconds.`,
		Example: `  weir thresholds set abnormal-response-time 2000 --api pizza
  weir thresholds list`,
	}
	cmd.AddCommand(setCommand(), listCommand(), unsetCommand())
	return cmd
}

// dimensionFlags gives cmd the flags that say which keys a threshold is for.
func dimensionFlags(cmd *cobra.Command, t *alert.Threshold) {
	cmd.Flags().StringVar(&t.Case, "case", "", "only this `case` of the rule")
	cmd.Flags().StringVar(&t.API, "api", "", "only the API of this `name`")
	cmd.Flags().StringVar(&t.Version, "version", "", "only this `version`")
	cmd.Flags().StringVar(&t.Resource, "resource", "", "only this `template` of a resource")
	cmd.Flags().StringVar(&t.Method, "method", "", "only this HTTP `method`")
	cmd.Flags().StringVar(&t.Application, "application", "", "only the application of this `id` or name, whichever the rule's key has")
	cmd.Flags().StringVar(&t.Tenant, "tenant", "", "only this tenant's `domain`")
}

func setCommand() *cobra.Command {
	var t alert.Threshold
	var by string
	cmd := &cobra.Command{
		Use:   "set RULE VALUE",
		Short: "Set a threshold, in place of what was set for exactly the same",
		Long: `Set a threshold: what must be exceeded, or not be reached, as the rule says, in the unit of the rule. Which keys it can be for, the
rule's key says. A rule with cases of which one has an upper bound and another a lower one needs --case.`,
		Example: `  weir thresholds set abnormal-response-time 2000 --api pizza
  weir thresholds set abnormal-response-time 800 --api pizza --tenant wso2.com
  weir thresholds set tier-crossing 100 --case subscription --application 7`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			t.Rule = args[0]
			if t.Value, err = strconv.ParseFloat(args[1], 64); err != nil || math.IsNaN(t.Value) || math.IsInf(t.Value, 0) {
				return config.Problems{fmt.Sprintf("%q is no threshold: it is a number, as in 2000 or 0.95", args[1])}
			}
			by = cmp.Or(by, wire.Person())
			err = ask(cmd, func(client *query.Client) error {
				_, err := client.SetThreshold(cmd.Context(), t, by)
				return err
			}, func(db *store.DB, rules []*alert.Rule) error {
				if err := query.CheckThreshold(rules, t); err != nil {
					return err
				}
				_, err := db.SetThreshold(cmd.Context(), t, by)
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s for %s\n", name(t), number(t.Value), t.Text())
			return err
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if at := strings.LastIndex(err.Error(), " in -"); at >= 0 {
			value := err.Error()[at+len(" in "):]
			if _, no := strconv.ParseFloat(value, 64); no == nil {
				return fmt.Errorf("%s looks like a flag: put a negative threshold last, behind --, as in `weir thresholds set RULE -- %s`", value, value)
			}
		}
		return err
	})
	dimensionFlags(cmd, &t)
	complete.Rules(cmd)
	cmd.Flags().StringVar(&by, "by", "", "say that this `person` set it; by default the user of this machine")
	flags(cmd)
	return cmd
}

func unsetCommand() *cobra.Command {
	var t alert.Threshold
	cmd := &cobra.Command{
		Use:   "unset RULE",
		Short: "Unset a threshold, so that what else there is holds again",
		Long:  "Unset the threshold that was set for exactly the same. What is learned cannot be unset, but what is set goes before it.",
		Example: `  weir thresholds unset abnormal-response-time --api pizza
  weir thresholds unset tier-crossing --case subscription --application 7`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Rule = args[0]
			err := ask(cmd, func(client *query.Client) error {
				return client.UnsetThreshold(cmd.Context(), t)
			}, func(db *store.DB, rules []*alert.Rule) error {
				return query.UnsetThreshold(cmd.Context(), db, rules, t)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: unset for %s\n", name(t), t.Text())
			return err
		},
	}
	dimensionFlags(cmd, &t)
	flags(cmd)
	complete.Rules(cmd)
	return cmd
}

func listCommand() *cobra.Command {
	var rule string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the thresholds that are set or learned",
		Long: `List the thresholds that people have set and those that were learned of the last days, by rule: for which keys each is, and
who has set it, when.`,
		Example: `  weir thresholds list
  weir thresholds list --rule abnormal-response-time --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []query.Threshold
			err := ask(cmd, func(client *query.Client) (err error) {
				list, err = client.Thresholds(cmd.Context(), rule)
				return err
			}, func(db *store.DB, rules []*alert.Rule) (err error) {
				list, err = query.Thresholds(cmd.Context(), db, rules, rule)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printTable(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().StringVar(&rule, "rule", "", "only of this `rule`")
	complete.Rule(cmd, "rule")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one threshold a line")
	flags(cmd)
	return cmd
}

func flags(cmd *cobra.Command) {
	cmd.Flags().String("postgres", "", "go to the database at this `URL`, not to the HTTP API")
	config.Flags(cmd, config.API, config.Definitions)
}

// ask goes to the API, or to the database if --postgres is given, with the rules
// of the definitions.
func ask(cmd *cobra.Command, api func(*query.Client) error, database func(*store.DB, []*alert.Rule) error) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	f := cmd.Flags().Lookup("postgres")
	if !f.Changed {
		return api(&query.Client{URL: string(cfg.HTTP.URL)})
	}
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return err
	}
	cfg.Postgres.URL = config.URL(f.Value.String())
	db, err := wire.Store(cmd.Context(), cfg, "thresholds")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return wire.Explain(database(db, catalog.Rules))
}

func name(t alert.Threshold) string {
	if t.Case != "" {
		return t.Rule + " (" + t.Case + ")"
	}
	return t.Rule
}

func number(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

func printTable(w io.Writer, list []query.Threshold) error {
	lines := [][]string{{"rule", "case", "for", "threshold", "by", "at"}}
	for _, t := range list {
		by := cmp.Or(t.By, "unknown")
		if t.Learned {
			by = "learned"
		}
		lines = append(lines, []string{t.Rule, cmp.Or(t.Case, "all"), t.Text(), number(t.Value), by, t.At.UTC().Format(time.RFC3339)})
	}
	return query.WriteAligned(w, lines, []bool{false, false, false, true, false, false})
}

// printJSON writes a threshold a line.
func printJSON(w io.Writer, list []query.Threshold) error {
	encoder := json.NewEncoder(query.TerminalJSON(w))
	encoder.SetEscapeHTML(false)
	for i := range list {
		if err := encoder.Encode(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
