package shard

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
)

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := prepared(&cobra.Command{
		Use:   "list",
		Short: "List the shards, and what each has folded",
		Long: `List the shards. A live one is held by a worker now; an idle one by none; a retired one may not be written; the rows of
a moved one are in another shard, and only its empty tables are left. The counts are control totals: what the shard has folded,
and the shards that were merged into it. Other events are those that count in the group __other__, at some
level at least, because their bucket had max_groups groups: for each aggregation anew. The levels that are behind do not have the last batch yet: a live worker completes
them as it goes, any live worker completes those of the others, and answers are complete all the same.`,
		Example: `  weir shard list
  weir shard list --json | jq .events`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, db *store.DB, u store.Upkeep) error {
				shards, err := query.Shards(ctx, db, u.Aggregations)
				if err != nil {
					return err
				}
				return show(cmd, shards, asJSON)
			})
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one shard a line")
	return cmd
}

func show(cmd *cobra.Command, shards []query.Shard, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for i := range shards {
			if err := encoder.Encode(&shards[i]); err != nil {
				return err
			}
		}
		return nil
	}
	lines := [][]string{{"shard", "state", "last flush", "batches", "messages", "events", "dead letters", "other events", "coarser levels", "owner"}}
	for i := range shards {
		s := &shards[i]
		state, flush, levels := s.State, "never", "complete"
		if s.MovedTo != "" {
			state += " to " + s.MovedTo
		}
		if s.LastFlush != nil {
			flush = s.LastFlush.Format(time.RFC3339)
		}
		if s.Behind > 0 {
			levels = fmt.Sprintf("%d of %d behind", s.Behind, s.Levels)
		}
		lines = append(lines, []string{
			s.ShardID, state, flush, number(s.Batches), number(s.Messages), number(s.Events), number(s.DeadLetters), number(s.OtherEvents), levels, s.Owner,
		})
	}
	return query.WriteAligned(out, lines, []bool{false, false, false, true, true, true, true, true, false, false})
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
