// Package deadletters is `weir deadletters`: what could not be folded, why, and
// what becomes of it.
package deadletters

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir deadletters`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deadletters",
		Short: "Show what could not be folded, and why; replay or drop it",
		Long: `An event that cannot be folded, or a message that cannot be read, becomes a dead letter, with the reason and what was
sent; its neighbours are folded. It is open until somebody has it replayed, once the definitions are mended, or drops it. A
replayed one is folded exactly once, as what it was: with its identity, its place in the stream and its time.`,
		Example: `  weir deadletters list
  weir deadletters show 17
  weir deadletters replay --all`,
	}
	cmd.AddCommand(listCommand(), showCommand(), replayCommand(), dropCommand())
	return cmd
}

// anyState is --state for letters in whatever state.
const anyState = "all"

func listCommand() *cobra.Command {
	var state, reason, source string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the newest dead letters, the newest last",
		Long: `List the newest dead letters, the newest last, with the reason of each: those that are open, unless --state says otherwise. The
HTTP API is asked or, with --postgres, the database.`,
		Example: `  weir deadletters list
  weir deadletters list --reason responseTime --source gw-1
  weir deadletters list --state all --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if states := append(store.DeadLetterStates(), anyState); !slices.Contains(states, state) {
				return fmt.Errorf("--state: there is no %q%s; there are: %s", state, config.Suggest(state, states), strings.Join(states, ", "))
			}
			if limit < 1 {
				return fmt.Errorf("--limit: %d is not possible; it is a number from 1 on", limit)
			}
			if state == anyState {
				state = ""
			}
			var letters []query.DeadLetter
			err := ask(cmd, func(client *query.Client) (err error) {
				letters, err = client.DeadLetters(cmd.Context(), state, reason, source, limit)
				return err
			}, func(db *store.DB) error {
				stored, err := db.DeadLetters(cmd.Context(), store.DeadLetterFilter{State: store.DeadLetterState(state), Reason: reason, Source: source, Limit: limit})
				for _, l := range stored {
					letters = append(letters, query.NewDeadLetter(l))
				}
				return err
			})
			if err != nil {
				return err
			}
			slices.Reverse(letters) // the newest where a terminal ends
			return printList(cmd, letters)
		},
	}
	cmd.Flags().StringVar(&state, "state", string(store.DeadLetterOpen), "list those in this `state`: "+strings.Join(store.DeadLetterStates(), ", ")+", or "+anyState)
	complete.Words(cmd, "state", append(store.DeadLetterStates(), anyState)...)
	cmd.Flags().StringVar(&reason, "reason", "", "list those with this `text` in their reason")
	cmd.Flags().StringVar(&source, "source", "", "list those that this `source` has published")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this `number`")
	flags(cmd)
	return cmd
}

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter with what was sent",
		Long: `Show one dead letter, and below it what was sent: text as it is, but for characters that a terminal would obey or not show,
which are written as in JSON (\u001b), and bytes that are no text as base64. It can be pasted as it is. --json has all of it for programs.`,
		Example: `  weir deadletters show 17
  weir deadletters show 17 --json | jq -r .payload > event.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := numbers(args)
			if err != nil {
				return err
			}
			var letter query.DeadLetter
			err = ask(cmd, func(client *query.Client) (err error) {
				letter, err = client.DeadLetter(cmd.Context(), ids[0])
				return err
			}, func(db *store.DB) error {
				stored, err := db.DeadLetter(cmd.Context(), ids[0])
				letter = query.NewDeadLetter(stored)
				return err
			})
			if err != nil {
				return err
			}
			return printOne(cmd, letter)
		},
	}
	flags(cmd)
	return cmd
}

// numbers reads ids; a # before one is how the commands write them.
func numbers(args []string) (ids []int64, err error) {
	for _, arg := range args {
		id, err := strconv.ParseInt(strings.TrimPrefix(arg, "#"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no dead letter's number; `weir deadletters list` shows them", arg)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func flags(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "print JSON, one dead letter a line")
	cmd.Flags().String("postgres", "", "ask the database at this `URL`, not the HTTP API")
	config.Flags(cmd, config.API)
}

// ask asks the API, or the database if --postgres is given.
func ask(cmd *cobra.Command, api func(*query.Client) error, database func(*store.DB) error) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	f := cmd.Flags().Lookup("postgres")
	if !f.Changed {
		return api(&query.Client{URL: string(cfg.HTTP.URL)})
	}
	cfg.Postgres.URL = config.URL(f.Value.String())
	db, err := wire.Store(cmd.Context(), cfg, "deadletters")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return wire.Explain(database(db))
}
