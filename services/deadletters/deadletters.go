// Package deadletters is `weir deadletters`: what could not be folded, and why.
package deadletters

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir deadletters`.
func Command() *cobra.Command {
	cmd := &cobra.Command{Use: "deadletters", Short: "Show what could not be folded, and why"}
	cmd.AddCommand(listCommand(), showCommand())
	return cmd
}

func listCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the newest dead letters, the newest last",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var letters []query.DeadLetter
			err := ask(cmd, func(client *query.Client) (err error) {
				letters, err = client.DeadLetters(cmd.Context(), limit)
				return err
			}, func(db *store.DB) error {
				stored, err := db.DeadLetters(cmd.Context(), limit)
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
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this `number`")
	flags(cmd)
	return cmd
}

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter with what was sent",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is no dead letter's number; `weir deadletters list` shows them", args[0])
			}
			var letter query.DeadLetter
			err = ask(cmd, func(client *query.Client) (err error) {
				letter, err = client.DeadLetter(cmd.Context(), id)
				return err
			}, func(db *store.DB) error {
				stored, err := db.DeadLetter(cmd.Context(), id)
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

func printList(cmd *cobra.Command, letters []query.DeadLetter) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), letters...)
	}
	lines := [][]string{{"id", "stored_at", "subject", "sequence", "offset", "reason"}}
	for _, l := range letters {
		lines = append(lines, []string{
			strconv.FormatInt(l.ID, 10), l.StoredAt.Format(time.RFC3339), l.Subject,
			strconv.FormatUint(l.Sequence, 10), offset(l), l.Reason,
		})
	}
	return query.WriteAligned(cmd.OutOrStdout(), lines, []bool{true, false, false, true, true, false})
}

func printOne(cmd *cobra.Command, l query.DeadLetter) error {
	out := cmd.OutOrStdout()
	if asJSON(cmd) {
		return printJSON(out, l)
	}
	err := query.WriteAligned(out, [][]string{
		{"id", strconv.FormatInt(l.ID, 10)},
		{"reason", l.Reason},
		{"subject", l.Subject},
		{"source", l.Source},
		{"message id", l.MsgID},
		{"sequence", strconv.FormatUint(l.Sequence, 10)},
		{"offset", offset(l)},
		{"stored at", l.StoredAt.Format(time.RFC3339Nano)},
		{"written at", l.At.Format(time.RFC3339Nano)},
	}, []bool{false, false})
	if err != nil {
		return err
	}
	if l.PayloadBase64 != "" {
		_, err = fmt.Fprintf(out, "\nas base64:\n%s\n", l.PayloadBase64)
	} else {
		_, err = fmt.Fprintf(out, "\n%q\n", l.Payload)
	}
	return err
}

// offset is the place of the event in its message.
func offset(l query.DeadLetter) string {
	if l.Offset < 0 {
		return "all"
	}
	return strconv.Itoa(l.Offset)
}

func asJSON(cmd *cobra.Command) bool {
	set, _ := cmd.Flags().GetBool("json")
	return set
}

func printJSON(w io.Writer, letters ...query.DeadLetter) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for i := range letters {
		if err := encoder.Encode(&letters[i]); err != nil {
			return err
		}
	}
	return nil
}
