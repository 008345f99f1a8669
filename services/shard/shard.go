// Package shard is `weir shard`: what shards there are, and how they are
// retired, merged and renamed.
package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir shard`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "List, retire, merge and rename shards",
		Long: `Every worker writes rows of its own, its shard. Rows add up over shards, so workers may come and go, and what one
leaves behind counts in every answer as long as it is kept. These commands keep the shards few and their names right.
They may run while other workers fold and questions are asked, and leave every answer as it is; each may be run again after a
crash. They need the rights of "weir apply", and the definitions that the workers use.`,
		Example: `  weir shard list
  weir shard merge w3 --into w1`,
	}
	cmd.AddCommand(listCommand(), retireCommand(), unretireCommand(), mergeCommand(), renameCommand())
	return cmd
}

// prepared gives cmd the flags that all of these commands have.
func prepared(cmd *cobra.Command) *cobra.Command {
	config.Flags(cmd, config.Postgres, config.Definitions)
	return cmd
}

func retireCommand() *cobra.Command {
	return prepared(&cobra.Command{
		Use:   "retire ID",
		Short: "Let nobody write a shard any more; its rows stay",
		Long: `Complete the coarser levels of a shard, and refuse every worker that wants to write it from now on. Its rows stay
as long as their retention says, and count in every answer. A shard that a live worker writes is refused.`,
		Example: `  weir shard retire w3`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, db *store.DB, u store.Upkeep) error {
				groups, err := db.RetireShard(ctx, u, args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "rolled up %s of shard %s\nretired shard %s; its rows stay\n", count(int64(groups), "group"), args[0], args[0])
				return err
			})
		},
	})
}

func unretireCommand() *cobra.Command {
	return prepared(&cobra.Command{
		Use:     "unretire ID",
		Short:   "Let a retired shard be written again",
		Long:    `Undo "weir shard retire": a worker may take the shard again.`,
		Example: `  weir shard unretire w3`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, db *store.DB, _ store.Upkeep) error {
				if err := db.UnretireShard(ctx, args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "shard %s may be written again\n", args[0])
				return err
			})
		},
	})
}

func mergeCommand() *cobra.Command {
	var into string
	cmd := prepared(&cobra.Command{
		Use:   "merge ID --into ID",
		Short: "Move all rows of a shard into another, and remove it",
		Long: `Move all rows of a shard that no live worker writes into another, which may be live, and remove the first one with its
tables. The rows and the control totals change hands in one transaction. Alerts and dead letters keep the old id.`,
		Example: `  weir shard merge w3 --into w1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, db *store.DB, u store.Upkeep) error {
				moved, err := db.MergeShard(ctx, u, args[0], into)
				return report(cmd, "merge "+args[0]+" --into "+into, moved, err)
			})
		},
	})
	cmd.Flags().StringVar(&into, "into", "", "the `shard` that gets the rows; it must exist")
	_ = cmd.MarkFlagRequired("into") // it is there
	return cmd
}

func renameCommand() *cobra.Command {
	return prepared(&cobra.Command{
		Use:   "rename OLD NEW",
		Short: "Give a shard another id",
		Long: `Give a shard that no live worker writes another id, of 1 to 20 characters, which no shard has. It is a move of all rows
to a new shard; alerts and dead letters keep the old id.`,
		Example: `  weir shard rename host-a-4711 w1`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, db *store.DB, u store.Upkeep) error {
				moved, err := db.RenameShard(ctx, u, args[0], args[1])
				return report(cmd, "rename "+args[0]+" "+args[1], moved, err)
			})
		},
	})
}

// report says what a move did, also where it has ended before it was done.
func report(cmd *cobra.Command, command string, m store.Moved, err error) error {
	out := cmd.OutOrStdout()
	if m.Groups > 0 {
		_, _ = fmt.Fprintf(out, "rolled up %s of shard %s\n", count(int64(m.Groups), "group"), m.From)
	}
	if m.Rows > 0 || err == nil {
		_, _ = fmt.Fprintf(out, "moved %s from shard %s to %s, with control totals of %s, %s, %s\n", count(m.Rows, "row"), m.From, m.To,
			count(m.Messages, "message"), count(m.Events, "event"), count(m.DeadLetters, "dead letter"))
	}
	if err != nil {
		return err
	}
	if m.Left > 0 {
		_, err := fmt.Fprintf(out, "left %s of shard %s, because older transactions are still open; to drop them: weir shard %s\n",
			count(int64(m.Left), "empty table"), m.From, command)
		return err
	}
	_, err = fmt.Fprintf(out, "dropped %s and removed shard %s\n", count(int64(m.Dropped), "empty table"), m.From)
	return err
}

// count writes a number of things.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// leaseWait is how long the connection of a killed worker may take to end.
const leaseWait = 5 * time.Second

// withStore runs f on the database, and says of an unknown shard which one was
// probably meant.
func withStore(cmd *cobra.Command, f func(context.Context, *store.DB, store.Upkeep) error) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	catalog, db, err := wire.Bound(cmd.Context(), cfg, "shard")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	err = f(cmd.Context(), db, store.Upkeep{Owner: wire.Owner() + ", " + cmd.CommandPath(), Wait: leaseWait, Aggregations: catalog.Kept()})
	var unknown store.ErrNoShard
	if errors.As(err, &unknown) {
		hint := config.Suggest(unknown.ShardID, unknown.Known)
		if hint == "" {
			hint = "; `weir shard list` shows them"
		}
		return fmt.Errorf("%w%s", err, hint)
	}
	return wire.Explain(err)
}
