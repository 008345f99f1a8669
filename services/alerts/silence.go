package alerts

import (
	"fmt"
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
)

func silenceCommand() *cobra.Command {
	var s alert.Silence
	var match []string
	var how string
	cmd := &cobra.Command{
		Use:   "silence --for TIME --comment TEXT [--rule RULE] [--match NAME=VALUE]…",
		Short: "Keep notifiers quiet about some alerts for some time",
		Long: `Keep notifiers (e-mail, webhooks, Alertmanager) from sending some alerts, for some time. The alerts are recorded and
published as ever. Those are meant that are of the rule, and whose key has every part that is given with --match; at least
one of both is needed. It prints the silence's number.`,
		Example: `  weir alerts silence --rule tier-crossing --match apiName=Shop --for 2h --comment "load test until noon"
  weir alerts silence --match applicationId=17 --for 3d --comment "known, being fixed" --by anna`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.Match, err = query.ParseMatch("--match", match); err != nil {
				return config.Problems{err.Error()}
			}
			long, err := query.ParseLong(how)
			if err != nil {
				return config.Problems{"--for: " + err.Error()}
			}
			now := time.Now()
			s.StartsAt, s.EndsAt = now, now.Add(long)
			var added alert.Silence
			err = ask(cmd, func(client *query.Client) (err error) {
				added, err = client.AddSilence(cmd.Context(), s)
				return err
			}, func(catalog *definition.Catalog, db *store.DB) (err error) {
				added, err = query.AddSilence(cmd.Context(), catalog, db, s, now)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), added)
			}
			return printLine(cmd, fmt.Sprintf("silence %d, until %s: %s", added.ID, added.EndsAt.Format(time.RFC3339), means(&added)))
		},
	}
	cmd.Flags().StringVar(&s.Rule, "rule", "", "alerts of this `rule`; by default of any")
	complete.Rule(cmd, "rule")
	cmd.Flags().StringArrayVar(&match, "match", nil, "alerts with this `part` in their key, as apiName=Shop; several must all be there")
	cmd.Flags().StringVar(&how, "for", "", "how `long`, as 2h, 30m or 3d; at most 366 days")
	cmd.Flags().StringVar(&s.Comment, "comment", "", "why, a `text`")
	for _, name := range []string{"for", "comment"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag: a mistake in these lines
		}
	}
	byFlag(cmd, &s.By)
	commonFlags(cmd)
	config.Flags(cmd, config.API, config.Definitions)
	return cmd
}

func unsilenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unsilence NUMBER",
		Short: "End a silence now",
		Long: `End a silence now, by the number that "weir alerts silence" has printed and "weir alerts silences" lists. It stays
listed with --all for 30 days.`,
		Example: `  weir alerts unsilence 12`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(strings.TrimPrefix(args[0], "#"), 10, 64)
			if err != nil {
				return config.Problems{fmt.Sprintf("%q is no silence's number; `weir alerts silences` shows them", args[0])}
			}
			var ended alert.Silence
			err = ask(cmd, func(client *query.Client) (err error) {
				ended, err = client.EndSilence(cmd.Context(), id)
				return err
			}, func(_ *definition.Catalog, db *store.DB) (err error) {
				ended, err = query.EndSilence(cmd.Context(), db, id, time.Now())
				return err
			})
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), ended)
			}
			return printLine(cmd, fmt.Sprintf("silence %d has ended: %s", ended.ID, means(&ended)))
		},
	}
	commonFlags(cmd)
	config.Flags(cmd, config.API)
	return cmd
}

func silencesCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "silences",
		Short:   "List the silences that are in force or to come",
		Long:    `List the silences that are in force or to come, the one that ends first first. With --all also those that ended, which are kept for 30 days.`,
		Example: `  weir alerts silences`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var silences []alert.Silence
			err := ask(cmd, func(client *query.Client) (err error) {
				silences, err = client.Silences(cmd.Context(), all)
				return err
			}, func(_ *definition.Catalog, db *store.DB) (err error) {
				silences, err = db.Silences(cmd.Context(), time.Now(), all)
				return err
			})
			if err != nil {
				return err
			}
			return printSilences(cmd, silences)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that have ended")
	commonFlags(cmd)
	config.Flags(cmd, config.API)
	return cmd
}

func printSilences(cmd *cobra.Command, silences []alert.Silence) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), silences...)
	}
	lines := [][]string{{"number", "starts_at", "ends_at", "by", "alerts", "comment"}}
	for i := range silences {
		s := &silences[i]
		lines = append(lines, []string{
			strconv.FormatInt(s.ID, 10), s.StartsAt.Format(time.RFC3339), s.EndsAt.Format(time.RFC3339), s.By, means(s), s.Comment,
		})
	}
	return query.WriteAligned(cmd.OutOrStdout(), lines, []bool{true, false, false, false, false, false})
}

// means says which alerts a silence means.
func means(s *alert.Silence) string {
	var parts []string
	if s.Rule != "" {
		parts = append(parts, s.Rule)
	}
	return strings.Join(append(parts, pairs(s.Match)...), " ")
}
