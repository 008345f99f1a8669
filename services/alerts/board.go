package alerts

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/wire"
)

func boardCommand() *cobra.Command {
	var tenant, state string
	cmd := &cobra.Command{
		Use:   "board",
		Short: "Show the availability of each API",
		Long: `Show of each API that had calls within a day how it does, by the alerts that fire now: available, high response time
(api-health or abnormal-response-time), server error (api-health) or silent (api-silent), and since when. A local alert counts for
10 minutes, because nobody says when it is over.`,
		Example: `  weir alerts board
  weir alerts board --state "server error" --tenant shop.example`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if states := query.APIStates(); state != "" && !slices.Contains(states, state) {
				return config.Problems{fmt.Sprintf("--state: there is no %q%s; there are: %s", state, config.Suggest(state, states), strings.Join(states, ", "))}
			}
			var apis []query.Availability
			err := ask(cmd, func(client *query.Client) (err error) {
				apis, err = client.Availability(cmd.Context(), tenant, query.APIState(state))
				return err
			}, func(catalog *definition.Catalog, db *store.DB) error {
				catalog, err := wire.Bind(cmd.Context(), catalog, db)
				if err == nil {
					apis, err = query.Board(cmd.Context(), catalog, db, time.Now())
					apis = query.ChooseAvailability(apis, tenant, query.APIState(state))
				}
				return err
			})
			if err != nil {
				return err
			}
			return printBoard(cmd, apis)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only APIs of this `tenant`'s publishers")
	cmd.Flags().StringVar(&state, "state", "", "only APIs in this `state`: "+strings.Join(query.APIStates(), ", "))
	complete.Words(cmd, "state", query.APIStates()...)
	commonFlags(cmd)
	config.Flags(cmd, config.API, config.Definitions)
	return cmd
}

func printBoard(cmd *cobra.Command, apis []query.Availability) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), apis...)
	}
	lines := [][]string{{"api", "version", "tenant", "state", "since", "rule"}}
	counts := map[query.APIState]int{}
	for _, a := range apis {
		since := ""
		if !a.Since.IsZero() {
			since = a.Since.UTC().Format(time.RFC3339)
		}
		counts[a.State]++
		lines = append(lines, []string{a.APIName, a.APIVersion, a.Tenant, string(a.State), since, a.Rule})
	}
	if err := query.WriteAligned(cmd.OutOrStdout(), lines, make([]bool, len(lines[0]))); err != nil {
		return err
	}
	var summary []string
	for _, state := range query.APIStates() {
		summary = append(summary, fmt.Sprintf("%d %s", counts[query.APIState(state)], state))
	}
	return printLine(cmd, strings.Join(summary, ", "))
}
