package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/failpoint"
	"weir/pkg/store"
	"weir/pkg/stream"
)

const (
	backfillMessages = 2000                   // most messages of one batch
	backfillBytes    = 4 << 20                // most bytes of bodies in one batch
	backfillWait     = 500 * time.Millisecond // before looking again whether a message is folded, or a worker gone
)

// Backfill gives an aggregation that was added later what the stream still
// holds of the events before, each once, while the workers go on.
//
// It takes from the stream what the ledger says is folded, and is not in the
// aggregation: that is what workers without the aggregation have folded. All
// else is left to workers, who fold it into all aggregations that they know.
// docs/adr/0014 shows why every event ends up in it once.
type Backfill struct {
	// Aggregation is the id of one that [store.DB.Apply] has marked.
	Aggregation string
	// Owner is who runs it, for people: host name and process.
	Owner string
	// Messages is how many are brought in by one transaction; 0 is 2,000.
	Messages int
	// Report is called by Run now and then, and at the end; nil: nobody.
	Report func(BackfillProgress)

	// Failpoints are where the backfill is to fail, for tests.
	Failpoints *failpoint.Set

	poll time.Duration // between looks at what it waits for; 0 is backfillWait
}

// BackfillProgress is how far a backfill is.
type BackfillProgress struct {
	stream.Extent        // what the stream held when the run began
	Through       uint64 // sequence up to which the stream was read
	Messages      int64  // read, of the types that the aggregation is made of
	Events        int64  // folded by this run
	Known         int64  // events that were in the aggregation before, by workers or an earlier run
	Left          int64  // events that no worker has folded yet; a worker with the aggregation will
	// WaitingFor lists the workers without the aggregation, "shard (owner)": the
	// backfill cannot end before they have.
	WaitingFor []string
}

// Run returns nil when the aggregation has every event that the stream holds,
// save what workers who know it are still to fold. It waits for that until no
// worker without it is alive. It can be ended at any time, and run again: what
// is in the aggregation is in the ledger.
func (f Backfill) Run(ctx context.Context, catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) error {
	def := catalog.Stored(f.Aggregation)
	if def == nil {
		return fmt.Errorf("backfill %s: the definitions have no such aggregation", f.Aggregation)
	}
	only := &definition.Catalog{Streams: catalog.Streams, Aggregations: []*aggregation.Definition{def}}
	j := &backfill{Backfill: f, db: db, worker: New(Config{ShardID: store.BackfillShard, Owner: f.Owner, Failpoints: f.Failpoints}, only, db, conn, log), next: 1, final: math.MaxUint64, skipped: math.MaxUint64}
	for _, input := range def.Inputs {
		j.types = append(j.types, input.Stream)
	}
	err := j.start(ctx, conn)
	if err == nil {
		err = errors.Join(j.worker.caught(func() error { return j.run(ctx) }), j.worker.lease.Close())
	}
	if err != nil {
		return fmt.Errorf("backfill %s: %w", f.Aggregation, err)
	}
	return nil
}

// backfill is one run. It uses the parts of a worker whose only aggregation is
// the one that is backfilled.
type backfill struct {
	Backfill
	db      *store.DB
	worker  *Worker
	history *stream.History
	types   []string

	next     uint64       // sequence to read from
	leases   store.Leases // as they were last looked at
	final    uint64       // what is stored after this sequence is folded by workers with the aggregation
	skipped  uint64       // the first message that was left to workers since leases were looked at
	progress BackfillProgress
}

func (j *backfill) start(ctx context.Context, conn *stream.Conn) (err error) {
	all, err := j.db.Backfills(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(all, store.Backfill{Aggregation: j.Aggregation, Running: true}) {
		return errors.New("it is not being backfilled")
	}
	if j.history, err = conn.History(ctx); err != nil {
		return err
	}
	if j.progress.Extent, err = j.history.Extent(ctx); err != nil {
		return err
	}
	err = j.worker.leaseShard(ctx)
	var taken store.ErrShardTaken
	if errors.As(err, &taken) {
		return fmt.Errorf("%s runs a backfill now: wait for it, or end it", taken.Owner)
	}
	return err
}

// run begins again where Postgres has lost what the backfill had committed: what
// is still in the ledger it passes over.
func (j *backfill) run(ctx context.Context) error {
	for {
		err := j.readOn(ctx)
		if !errors.Is(err, errLost) {
			return err
		}
		j.worker.log.Warn("backfill begins again", zap.Error(err))
		j.next, j.final, j.skipped, j.leases = 1, math.MaxUint64, math.MaxUint64, store.Leases{}
		j.progress = BackfillProgress{Extent: j.progress.Extent}
	}
}

// readOn reads on until nothing is left that a worker without the aggregation
// can have folded.
func (j *backfill) readOn(ctx context.Context) error {
	for {
		messages, err := j.history.Read(ctx, j.next, stream.Limits{Messages: cmp.Or(j.Messages, backfillMessages), Bytes: backfillBytes}, j.types)
		if err != nil {
			return err
		}
		if len(messages) == 0 || messages[0].Sequence > j.final {
			done, err := j.finish(ctx)
			if done || err != nil {
				return err
			}
			continue
		}
		if j.next <= j.progress.Through { // looked at before: not counted again
			n, _ := slices.BinarySearchFunc(messages, j.progress.Through+1, func(m stream.Message, s uint64) int { return int(m.Sequence) - int(s) }) //nolint:gosec // sequences stay far below 2^63
			messages = messages[:max(n, 1)]
		}
		for len(messages) > 0 {
			n, err := j.take(ctx, messages)
			if err != nil {
				return err
			}
			j.next = messages[n-1].Sequence + 1
			j.progress.Through = max(j.progress.Through, j.next-1)
			messages = messages[n:]
			j.report()
		}
	}
}

// finish ends the backfill if the leases, as they were before the last read,
// allow it, and are still the same. Otherwise it looks at them anew.
func (j *backfill) finish(ctx context.Context) (done bool, err error) {
	if j.leases.None {
		if err := j.letters(ctx); err != nil {
			return false, err
		}
		if err := j.worker.rollUpNow(ctx, true); err != nil {
			return false, err
		}
		if err := j.worker.cfg.Failpoints.Hit(failpoint.BackfillEnding); err != nil {
			return false, err
		}
		if done, err = j.db.FinishBackfill(ctx, j.Aggregation, j.leases, j.worker.lease, j.worker.last); done || err != nil {
			j.report()
			return done, err
		}
		// If that is because of its own shard, a batch with nothing in it says so.
		if err := j.worker.flush(ctx, newBatch(0, store.NewClaims())); err != nil {
			return false, err
		}
		// What was left to workers may have been folded by one without the aggregation.
		j.next = min(j.next, j.skipped)
		j.progress.Left = 0
		j.leases = store.Leases{}
	}
	if err := j.look(ctx); err != nil || j.leases.None {
		return false, err
	}
	return false, j.wait(ctx)
}

// look asks who is alive without the aggregation. Nobody: whatever is not
// folded by now, or not even stored, will be folded into it by workers.
func (j *backfill) look(ctx context.Context) (err error) {
	if j.leases, err = j.db.LeasesWithout(ctx, j.Aggregation); err != nil {
		return err
	}
	j.progress.WaitingFor = j.leases.Without
	j.final, j.skipped = math.MaxUint64, math.MaxUint64
	if !j.leases.None {
		return nil
	}
	extent, err := j.history.Extent(ctx)
	j.final = extent.Last
	return err
}

func (j *backfill) wait(ctx context.Context) error {
	j.report()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(cmp.Or(j.poll, backfillWait)):
		return nil
	}
}

func (j *backfill) report() {
	if j.Report != nil {
		j.Report(j.progress)
	}
}

// take brings messages into the aggregation, as many as make one batch, and
// returns how many. It waits until they are folded, unless they can be left to
// workers.
func (j *backfill) take(ctx context.Context, messages []stream.Message) (int, error) {
	for {
		b, unfolded, err := j.decode(ctx, messages)
		if ofInput(err) {
			return j.isolate(ctx, messages, err)
		}
		if err != nil {
			return 0, err
		}
		if unfolded > 0 && !j.leases.None {
			if err := errors.Join(j.look(ctx), j.wait(ctx)); err != nil {
				return 0, err
			}
			continue // j.leases are those from before the next look at the ledger
		}
		taken := messages[:b.taken]
		candidates := b.totals().Events
		err = j.persist(ctx, b)
		if ofInput(err) {
			return j.isolate(ctx, taken, err)
		}
		if err != nil {
			return 0, err
		}
		if unfolded > 0 {
			j.skipped = min(j.skipped, taken[0].Sequence)
		}
		events := b.totals().Events
		j.progress.Events += events
		j.progress.Left += unfolded
		if taken[0].Sequence > j.progress.Through {
			j.progress.Messages += int64(len(taken))
			j.progress.Known += candidates - events
		}
		return len(taken), nil
	}
}

// decode reads messages and drops what is not the backfill's: dead letters,
// which stay what they are, and what the workers have not folded, of which it
// returns the number of events, or 1 where there are none.
func (j *backfill) decode(ctx context.Context, messages []stream.Message) (b *batch, unfolded int64, err error) {
	if err := j.worker.cfg.Failpoints.Hit(failpoint.BackfillRead); err != nil {
		return nil, 0, err
	}
	b, err = j.worker.decodeFrom(j.history.Incarnation(), messages, store.NewBackfillClaims(j.Aggregation))
	if err != nil {
		return nil, 0, err
	}
	if len(j.worker.unstorable) == 0 {
		b.dead, b.deadOf = nil, nil // the worker that folded the message has written them
	}
	graves, err := j.db.Buried(ctx, messages[0].Sequence, messages[b.taken-1].Sequence)
	if err != nil {
		return nil, 0, err
	}
	b.dropBuried(graves)
	all := b.totals().Events
	some, err := j.db.RefuseUnfolded(ctx, b.claims)
	if err != nil {
		return nil, 0, err
	}
	b.dropRefused()
	unfolded = all - b.totals().Events
	if some && unfolded == 0 {
		unfolded = 1
	}
	return b, unfolded, nil
}

func (b *batch) dropBuried(graves *store.Graves) {
	for _, columns := range b.columns {
		for row := range columns.Len() {
			o := b.origins[columns.Messages[row]]
			if graves.Holds(o.sequence, int(columns.Offsets[row]), o.stored) {
				columns.Dropped[row] = true
			}
		}
	}
}

// persist writes what is left of the batch, less what the aggregation has.
func (j *backfill) persist(ctx context.Context, b *batch) error {
	for {
		if err := j.worker.refuse(ctx, b); err != nil || b.empty() {
			return err
		}
		if err := j.flush(ctx, b); !errors.Is(err, store.ErrClaimed) {
			return err
		}
	}
}

// flush is a worker's, without what the fold has done already: alerts, dead
// letters, and the shard's totals, which count an event once.
func (j *backfill) flush(ctx context.Context, b *batch) error {
	w := j.worker
	if err := w.loadCascade(ctx); err != nil {
		return err
	}
	levels, err := w.levels(ctx, store.BackfillShard)
	if err != nil {
		return err
	}
	out := w.evaluate(b, levels)
	defer out.finish()
	for i := range b.dead {
		b.dead[i].Aggregation = j.Aggregation // the others have it
	}
	var number int64
	err = w.db.InTx(ctx, func(tx *store.Tx) error {
		if number, err = w.nextBatch(ctx, tx, store.Totals{DeadLetters: int64(len(b.dead))}); err != nil { // fenced
			return err
		}
		if err := tx.WriteParts(ctx, store.BackfillShard, number, out.dict, out.parts); err != nil {
			return err
		}
		if err := out.wait(); err != nil {
			return err
		}
		if err := tx.WriteControl(ctx, store.BackfillShard, out.control); err != nil {
			return err
		}
		if err := tx.WriteLevels(ctx, store.BackfillShard, before(number, out.delta), levels); err != nil {
			return err
		}
		if err := tx.WriteDeadLetters(ctx, store.BackfillShard, b.dead); err != nil {
			return err
		}
		if err := tx.CompleteDeadLetters(ctx, b.raised.IDs, j.Aggregation); err != nil {
			return err
		}
		return tx.Claim(ctx, b.claims) // last
	})
	return w.settle(err, number, levels, out)
}

// isolate finds, by halving, the message that Postgres cannot store in this
// aggregation. It becomes a dead letter; the other aggregations have it.
func (j *backfill) isolate(ctx context.Context, messages []stream.Message, cause error) (int, error) {
	if n := len(messages); n > 1 {
		return j.take(ctx, messages[:n/2])
	}
	sequence := messages[0].Sequence
	if _, again := j.worker.unstorable[sequence]; again {
		return 0, fmt.Errorf("message %d cannot even be made a dead letter: %w", sequence, cause)
	}
	j.worker.unstorable[sequence] = fmt.Sprintf("backfill of %s: %s", j.Aggregation, why(cause))
	defer delete(j.worker.unstorable, sequence)
	return j.take(ctx, messages)
}
