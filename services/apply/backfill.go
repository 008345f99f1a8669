package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
	"weir/services/progress"
	"weir/services/wire"
)

// progressEvery is how often a backfill says how far it is.
const progressEvery = 5 * time.Second

const nothingToDo = "nothing to do: no aggregation is added to others, and no backfill is open. One that exists gets its past under another name only"

// backfills give aggregations their past.
type backfills struct {
	out     io.Writer
	stderr  io.Writer // shows a bar, where it is a terminal; nil: nothing does
	catalog *definition.Catalog
	db      *store.DB
	conn    *stream.Conn
	log     *zap.Logger
}

// plan prints which aggregations would be backfilled with the flag, and without
// it which are not complete.
func (b backfills) plan(ctx context.Context, options store.PlanOptions) error {
	unfinished, _, err := b.unfinished(ctx)
	if err != nil {
		return err
	}
	if !options.Backfill {
		b.remind(unfinished)
		return nil
	}
	created, err := b.db.Backfilled(ctx, b.catalog.Aggregations, options)
	if err != nil {
		return err
	}
	if len(created)+len(unfinished) == 0 {
		b.say(nothingToDo)
		return nil
	}
	held, err := b.held(ctx)
	if err != nil {
		return err
	}
	for _, name := range created {
		b.say("%s from %s", name, held)
	}
	for _, name := range unfinished {
		b.say("%s, going on, from %s", name, held)
	}
	return nil
}

func (b backfills) remind(unfinished []string) {
	for _, name := range unfinished {
		b.say("the backfill of %s is not complete: `weir apply --backfill` goes on with it", name)
	}
}

// run backfills all that is to be backfilled, once it is provisioned; without
// the flag it says what is not complete.
func (b backfills) run(ctx context.Context, options store.PlanOptions) error {
	names, bound, err := b.unfinished(ctx)
	if err != nil {
		return err
	}
	if !options.Backfill {
		b.remind(names)
		return nil
	}
	if len(names) == 0 {
		b.say(nothingToDo)
	}
	return b.complete(ctx, names, bound)
}

// complete sees the named backfills through, one after another.
func (b backfills) complete(ctx context.Context, names []string, bound *definition.Catalog) error {
	for _, name := range names {
		if err := b.one(ctx, name, bound); err != nil {
			return err
		}
	}
	return nil
}

// unfinished lists the aggregations of the definitions whose backfill is not
// complete, which bound has with their tables, and says which others there are.
func (b backfills) unfinished(ctx context.Context) (names []string, bound *definition.Catalog, err error) {
	all, err := b.db.Backfills(ctx)
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	defs, earlier, _, err := b.db.Bind(ctx, b.catalog.Aggregations)
	if err != nil {
		return nil, nil, err
	}
	bound = b.catalog.Bound(defs, earlier)
	for _, backfill := range all {
		switch {
		case !backfill.Running:
		case bound.Stored(backfill.Aggregation) == nil:
			b.say("the backfill of %s is not complete, and these definitions lack it", backfill.Aggregation)
		default:
			names = append(names, backfill.Aggregation)
		}
	}
	return names, bound, nil
}

// held says what the stream holds.
func (b backfills) held(ctx context.Context) (string, error) {
	history, err := b.conn.History(ctx)
	if errors.Is(err, stream.ErrNotProvisioned) {
		return "the stream, which is not there yet", nil
	}
	if err != nil {
		return "", err
	}
	extent, err := history.Extent(ctx)
	return describe(extent), err
}

func describe(extent stream.Extent) string {
	if extent.Messages == 0 {
		return "the stream, which holds no message"
	}
	return fmt.Sprintf("the stream: %s messages since %s", grouped(int64(extent.Messages)), extent.Since.Format(time.RFC3339)) //nolint:gosec // far below 2^63
}

func (b backfills) one(ctx context.Context, name string, bound *definition.Catalog) error {
	held, err := b.held(ctx)
	if err != nil {
		return err
	}
	b.say("%s from %s", name, held)
	var last worker.BackfillProgress
	said := time.Now()
	bar := progress.New(b.stderr, b.stderr == nil, 0)
	bar.Start()
	err = worker.Backfill{
		Aggregation: name,
		Owner:       wire.Owner(),
		Report: func(p worker.BackfillProgress) {
			last = p
			bar.Set(int64(min(p.Through, p.Last)), int64(p.Last)) //nolint:gosec // sequences stay far below 2^63
			if (!bar.Shown() || len(p.WaitingFor) > 0) && time.Since(said) >= progressEvery {
				said = time.Now()
				b.line(bar, "%s: %s", name, position(p))
			}
		},
	}.Run(ctx, bound, b.db, b.conn, b.log)
	bar.Finish()
	if err != nil {
		return fmt.Errorf("%w\nNothing is lost or doubled: `weir apply --backfill` goes on with it", err)
	}
	b.say("%s: complete: %s", name, counts(last))
	return nil
}

func position(p worker.BackfillProgress) string {
	text := fmt.Sprintf("at message %s of %s, %s", grouped(int64(p.Through)), grouped(int64(p.Last)), counts(p)) //nolint:gosec // sequences stay far below 2^63
	if p.Through > p.Last {
		text = counts(p)
	}
	if len(p.WaitingFor) > 0 {
		text += "; waiting for workers without it to end: " + strings.Join(p.WaitingFor, ", ")
	}
	return text
}

func counts(p worker.BackfillProgress) string {
	return fmt.Sprintf("%s messages read, %s events folded, %s there before, %s left to the workers",
		grouped(p.Messages), grouped(p.Events), grouped(p.Known), grouped(p.Left))
}

// grouped writes a number with commas: 1,234,567.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// line is say while there is a bar.
func (b backfills) line(bar *progress.Bar, format string, args ...any) {
	if bar.Shown() {
		b.out = bar
	}
	b.say(format, args...)
}

func (b backfills) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "backfill:  "+format+"\n", args...)
}
