package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/child"
	"weir/pkg/stream"
)

// folded is one measurement of workers.
type folded struct {
	rate     float64 // events/s
	cpu      *CPU
	wal      float64 // bytes per event
	rows     float64 // per event
	others   float64 // share of the machine that had nothing to do with it
	rest     rest
	problems []string // of the counts
	checked  int      // aggregations times levels
}

// rest is what is left for the coarser levels when everything is folded, and is done when the workers end, as far as they
// have the time then.
type rest struct {
	complete bool
	seconds  float64
	cpu      *CPU
	wal      float64
	rows     float64
}

// environment is that of a role on a database.
func (b *bed) environment(database, streams string) []string {
	env := child.Environment(filepath.Join(b.cfg.Dir, b.name), b.cfg.Worker...)
	return append(env, "WEIR_NATS_URL="+b.url, "WEIR_POSTGRES_URL="+b.postgres.url(database), "WEIR_STREAMS="+streams, "WEIR_LOG_FORMAT=json")
}

// workers starts them on a database: all, or after an error none.
func (b *bed) workers(database string) (all []*process, err error) {
	for i := range b.cfg.Workers {
		shard := "w" + strconv.Itoa(i+1)
		env := append(b.environment(database, b.used()), "WEIR_WORKER_SHARD_ID="+shard)
		p, err := spawn("worker "+shard, b.cfg.Program, filepath.Join(b.cfg.Dir, b.name, shard+".log"), env, "worker")
		if err != nil {
			killAll(all)
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// measured starts workers on a database, and samples their memory from when they are ready for messages until end is called,
// which ends also those that still run: there are some after an error.
func (b *bed) measured(ctx context.Context, database string, memory *Memory) (workers []*process, end func(), err error) {
	if workers, err = b.workers(database); err != nil {
		return nil, nil, err
	}
	if err := b.ready(ctx, stream.FoldConsumer, workers); err != nil {
		killAll(workers)
		return nil, nil, fmt.Errorf("wait for workers to begin: %w", err)
	}
	unwatch := memory.watch(workers, b.server.Pid(), b.postgres.server.Pid())
	return workers, func() {
		unwatch()
		killAll(workers)
	}, nil
}

// stopAll ends processes in good order, all at once.
func stopAll(processes []*process) error {
	failures := make(chan error, len(processes))
	for _, p := range processes {
		go func() { failures <- p.stop() }()
	}
	var all error
	for range processes {
		all = errors.Join(all, <-failures)
	}
	return all
}

// endAll is stopAll of processes that must have worked to their end.
func endAll(processes []*process) error {
	if err := stopAll(processes); err != nil {
		return err
	}
	for _, p := range processes {
		if p.Err() != nil {
			return p.failed()
		}
	}
	return nil
}

func killAll(processes []*process) {
	for _, p := range processes {
		p.kill()
	}
}

// fold lets workers fold all that the stream has, which is so many events, and compares what they have stored.
func (b *bed) fold(ctx context.Context, events int, memory *Memory) (*folded, error) {
	database := b.database()
	if err := b.postgres.create(ctx, database, b.name); err != nil {
		return nil, err
	}
	f, err := b.foldInto(ctx, database, events, memory)
	if err != nil {
		return nil, err
	}
	if f.rest.complete, err = b.complete(ctx, database); err != nil {
		return nil, err
	}
	if f.problems, f.checked, err = b.check(ctx, database); err != nil {
		return nil, err
	}
	return f, b.postgres.drop(ctx, database)
}

// foldInto is fold without the comparison.
func (b *bed) foldInto(ctx context.Context, database string, events int, memory *Memory) (*folded, error) {
	if err := errors.Join(b.postgres.checkpoint(ctx), b.hold(ctx, stream.FoldConsumer)); err != nil {
		return nil, err
	}
	db, err := b.postgres.open(ctx, b.postgres.url(database))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rowsBefore, err := b.countRows(ctx, db)
	if err != nil {
		return nil, err
	}
	workers, end, err := b.measured(ctx, database, memory)
	if err != nil {
		return nil, err
	}
	defer end()
	f := &folded{}
	before, after, err := b.timed(ctx, stream.FoldConsumer, workers)
	if err != nil {
		return nil, err
	}
	f.rate = float64(events) / after.at.Sub(before.at).Seconds()
	f.cpu, f.wal = after.since(before, events)
	f.others = after.others(before)
	rowsAfter, err := b.countRows(ctx, db)
	if err != nil {
		return nil, err
	}
	if err := f.end(ctx, b, workers, events); err != nil {
		return nil, err
	}
	rowsEnd, err := b.countRows(ctx, db)
	f.rows = float64(rowsAfter-rowsBefore) / float64(events)
	f.rest.rows = float64(rowsEnd-rowsAfter) / float64(events)
	return f, err
}

// timed lets processes that wait for messages have them, and looks what is used when they begin and when they are through.
func (b *bed) timed(ctx context.Context, consumer string, processes []*process) (before, after usage, err error) {
	at, err := b.release(ctx, consumer)
	if err != nil {
		return before, after, err
	}
	if before, err = b.look(ctx, processes, nil); err != nil {
		return before, after, err
	}
	before.at = at
	select {
	case <-ctx.Done():
		return before, after, ctx.Err()
	case <-time.After(time.Until(at)):
	}
	if err = b.drained(ctx, consumer, processes); err != nil {
		return before, after, fmt.Errorf("wait until everything is acknowledged: %w", err)
	}
	after, err = b.look(ctx, processes, nil)
	return before, after, err
}

// end lets the workers end, and write what the coarser levels lack before they do.
func (f *folded) end(ctx context.Context, b *bed, workers []*process, events int) error {
	before, err := b.look(ctx, workers, nil) // the rows were counted since
	if err != nil {
		return err
	}
	if err := endAll(workers); err != nil {
		return err
	}
	seconds := time.Since(before.at).Seconds()
	after, err := b.look(ctx, nil, workers)
	f.rest.seconds = seconds
	f.rest.cpu, f.rest.wal = after.since(before, events)
	return err
}

// complete reports whether no coarser level lacks anything.
func (b *bed) complete(ctx context.Context, database string) (bool, error) {
	db, catalog, err := b.open(ctx, database)
	if err != nil {
		return false, err
	}
	defer db.Close()
	behind, _, err := db.Behind(ctx, catalog.Aggregations)
	for _, levels := range behind {
		if levels > 0 {
			return false, err
		}
	}
	return err == nil, err
}

// chunk is how many events of the history are in the stream and not folded.
const chunk = 1_000_000

// history folds events into the template, by workers that run all the time, as they would: what coarser levels lack is
// never more than usual. The stream, which keeps only the newest messages meanwhile, is empty afterwards.
func (b *bed) history(ctx context.Context, events int, say func(string, ...any)) error {
	s, err := b.js.Stream(ctx, eventsStream)
	if err != nil {
		return err
	}
	config := s.CachedInfo().Config
	config.MaxMsgs, config.Discard = int64(2*chunk/b.cfg.Batch+1000), jetstream.DiscardOld
	if _, err := b.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("let the stream forget: %w", err)
	}
	workers, err := b.workers(b.name)
	if err != nil {
		return err
	}
	defer killAll(workers) // they have ended, but after an error
	for left := events; left > 0; left -= chunk {
		if err := b.fill(ctx, min(left, chunk)); err != nil {
			return err
		}
		if err := b.drained(ctx, stream.FoldConsumer, workers); err != nil {
			return err
		}
		say("%s: %s events of the history are folded", b.name, thousands(float64(b.made)))
	}
	if err := stopAll(workers); err != nil {
		return err
	}
	return b.empty(ctx)
}
