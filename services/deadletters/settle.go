package deadletters

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weir/pkg/store"
	"weir/services/config"
	"weir/services/wire"
)

const (
	pollEvery = 200 * time.Millisecond
	shownBad  = 10 // letters whose reason is shown
)

// chosen says which letters a command is about: by their numbers, by a text in
// their reason, or all.
type chosen struct {
	all    bool
	reason string
	source string
}

func (c *chosen) flags(cmd *cobra.Command, verb string) {
	cmd.Flags().BoolVar(&c.all, "all", false, verb+" all that are open")
	cmd.Flags().StringVar(&c.reason, "reason", "", verb+" those with this `text` in their reason")
	cmd.Flags().StringVar(&c.source, "source", "", verb+" those that this `source` has published")
	config.Flags(cmd, config.Postgres)
}

func (c *chosen) filter(args []string) (store.DeadLetterFilter, error) {
	ids, err := numbers(args)
	if err != nil {
		return store.DeadLetterFilter{}, err
	}
	byText := c.reason != "" || c.source != ""
	switch {
	case len(ids) == 0 && !c.all && !byText:
		return store.DeadLetterFilter{}, errors.New("say which: numbers of dead letters as `weir deadletters list` shows them, or --reason TEXT, --source NAME, or --all")
	case len(ids) > 0 && (c.all || byText), c.all && byText:
		return store.DeadLetterFilter{}, errors.New("say it in one way: numbers of dead letters, or --reason and --source, or --all")
	}
	return store.DeadLetterFilter{IDs: ids, Reason: c.reason, Source: c.source}, nil
}

func replayCommand() *cobra.Command {
	var which chosen
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "replay ID… | --reason TEXT | --source NAME | --all",
		Short: "Let workers fold dead letters after all, and say what has become of them",
		Long: `Ask the workers to fold dead letters, and wait until they have. Each is folded exactly once, by the definitions that
the worker has: mend these first, run "weir apply", and restart the workers. What still cannot be folded is open again, with
the reason of today, and makes the command end with exit code 1. Of a whole message what is good is folded, and each of its
other events becomes a dead letter of its own. Replayed events raise no alerts.`,
		Example: `  weir deadletters replay 17 18
  weir deadletters replay --reason "responseTime"
  weir deadletters replay --all --wait 5m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := which.filter(args)
			if err != nil {
				return err
			}
			return withStore(cmd, func(ctx context.Context, db *store.DB) error { return replay(ctx, cmd, db, filter, wait) })
		},
	}
	which.flags(cmd, "replay")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "wait this `long` for workers; 0 only asks them")
	return cmd
}

func replay(ctx context.Context, cmd *cobra.Command, db *store.DB, filter store.DeadLetterFilter, wait time.Duration) error {
	if err := checkOpen(ctx, db, filter.IDs); err != nil {
		return err
	}
	ids, err := db.ReplayDeadLetters(ctx, filter)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if len(ids) == 0 {
		_, err := fmt.Fprintln(out, "no such dead letter is open: nothing to replay")
		return err
	}
	if wait <= 0 {
		_, err := fmt.Fprintf(out, "asked for %s; `weir deadletters list --state replay` shows what is still to be done\n", count(len(ids)))
		return err
	}
	waiting, err := await(ctx, db, ids, wait)
	if err != nil {
		return err
	}
	folded, bad, err := results(ctx, db, ids)
	if err != nil {
		return err
	}
	summary := fmt.Sprintf("%d folded", folded)
	if bad.n > 0 {
		summary += fmt.Sprintf(", %d still bad (%s)", bad.n, bad.text)
	}
	switch {
	case waiting > 0:
		return fmt.Errorf("%s, and %s not taken up within %s. They stay asked for, and the next worker that runs folds them: "+
			"`weir shard list` shows which workers are live, `weir deadletters list --state replay` what is still to be done", summary, count(int(waiting)), wait)
	case bad.n > 0:
		return errors.New(summary)
	}
	_, err = fmt.Fprintln(out, summary)
	return err
}

// checkOpen refuses numbers of letters that are not there, or not open any more,
// before anything is done.
func checkOpen(ctx context.Context, db *store.DB, ids []int64) error {
	var problems []string
	for _, id := range ids {
		l, err := db.DeadLetter(ctx, id)
		switch {
		case errors.Is(err, store.ErrNoDeadLetter):
			problems = append(problems, fmt.Sprintf("there is no dead letter %d", id))
		case err != nil:
			return err
		case l.State == store.DeadLetterFolded || l.State == store.DeadLetterDropped:
			problems = append(problems, fmt.Sprintf("#%d is %s already", id, l.State))
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; ") + "; nothing is done")
	}
	return nil
}

// await waits until workers have settled the letters, and returns how many are
// left.
func await(ctx context.Context, db *store.DB, ids []int64, wait time.Duration) (left int64, err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for late := false; ; {
		left, err = db.CountDeadLetters(ctx, store.DeadLetterFilter{IDs: ids, State: store.DeadLetterReplay})
		if left == 0 || late || err != nil {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-deadline.C:
			late = true
		case <-tick.C:
		}
	}
}

// bad is what still cannot be folded.
type bad struct {
	n    int64
	text string
}

// results says what has become of the letters.
func results(ctx context.Context, db *store.DB, ids []int64) (folded int64, still bad, err error) {
	if folded, err = db.CountDeadLetters(ctx, store.DeadLetterFilter{IDs: ids, State: store.DeadLetterFolded}); err != nil {
		return 0, still, err
	}
	open := store.DeadLetterFilter{IDs: ids, State: store.DeadLetterOpen, Limit: shownBad}
	if still.n, err = db.CountDeadLetters(ctx, open); err != nil {
		return 0, still, err
	}
	letters, err := db.DeadLetters(ctx, open)
	if err != nil {
		return 0, still, err
	}
	slices.Reverse(letters)
	split, err := db.SplitDeadLetters(ctx, ids)
	if err != nil {
		return 0, still, err
	}
	still.n += int64(len(split))
	letters = append(letters, split...)
	var texts []string
	for _, l := range letters[:min(len(letters), shownBad)] {
		texts = append(texts, fmt.Sprintf("#%d: %s", l.ID, cut(l.Reason, shownReason)))
	}
	if more := still.n - int64(len(texts)); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more in `weir deadletters list`", more))
	}
	still.text = strings.Join(texts, "; ")
	return folded, still, nil
}

func dropCommand() *cobra.Command {
	var which chosen
	var yes bool
	cmd := &cobra.Command{
		Use:   "drop ID… | --reason TEXT | --source NAME | --all",
		Short: "Give up dead letters for good",
		Long: `Give up dead letters for good: what was sent is deleted, and they cannot be replayed any more. That they were there,
and why, stays, so that everything that was accepted is accounted for. On a terminal it asks first; elsewhere it needs --yes.`,
		Example: `  weir deadletters drop 17
  weir deadletters drop --reason "unknown type" --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := which.filter(args)
			if err != nil {
				return err
			}
			return withStore(cmd, func(ctx context.Context, db *store.DB) error { return drop(ctx, cmd, db, filter, yes) })
		},
	}
	which.flags(cmd, "drop")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func drop(ctx context.Context, cmd *cobra.Command, db *store.DB, filter store.DeadLetterFilter, yes bool) error {
	if err := checkOpen(ctx, db, filter.IDs); err != nil {
		return err
	}
	if !yes {
		n, err := unsettled(ctx, db, filter)
		if err != nil {
			return err
		}
		if n > 0 {
			err = confirm(cmd, int(n))
		}
		if err != nil {
			return err
		}
	}
	ids, err := db.DropDeadLetters(ctx, filter)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "dropped %s\n", count(len(ids)))
	return err
}

// unsettled counts what of the filter may be dropped.
func unsettled(ctx context.Context, db *store.DB, filter store.DeadLetterFilter) (n int64, err error) {
	for _, state := range []store.DeadLetterState{store.DeadLetterOpen, store.DeadLetterReplay} {
		filter.State = state
		more, err := db.CountDeadLetters(ctx, filter)
		if err != nil {
			return 0, err
		}
		n += more
	}
	return n, nil
}

// confirm asks whoever sits at the terminal.
func confirm(cmd *cobra.Command, n int) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) { //nolint:gosec // a file's number
		return fmt.Errorf("this deletes what was sent of %s for good: say --yes", count(n))
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "Delete what was sent of %s for good? [y/N] ", count(n)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing is dropped")
	}
	return nil
}

// withStore runs f on the database.
func withStore(cmd *cobra.Command, f func(context.Context, *store.DB) error) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	db, err := wire.Store(cmd.Context(), cfg, "deadletters")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return wire.Explain(f(cmd.Context(), db))
}

// count writes a number of dead letters.
func count(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}
