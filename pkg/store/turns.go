package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// turns bounds what questions take from those who fold, whoever asks and however many:
//
//   - some are under way at a time, and the others wait, in their order and without a connection;
//   - those that wait and are the same, or differ only in what a group key is to be ([Question.shape]), become one: whoever asks gets an
//     answer from a snapshot that was taken after;
//   - while workers have a backlog ([DB.Yield]), one is under way at a time, and after each there is a rest of nine times what it took, so that
//     they have a tenth of one connection. Who has waited for impatience is answered without that rest: a late answer is
//     better than none.
//
// A turn ends with the first row: Postgres has done its work by then, mostly, and a client that reads slowly holds up nobody. But
// until its last row an answer has a connection, and all of them together have half of those that there are.
type turns struct {
	slots chan struct{} // has as many as may be under way
	open  chan struct{} // has as many as may have a connection
	alone chan struct{} // has one, held while workers have a backlog
	yield atomic.Bool

	mu      sync.Mutex
	waiting map[string]*sharing
	rested  time.Time // until when there is a rest
	counts  Questions
}

// Questions counts the questions of this process.
type Questions struct {
	Asked   int64 // of Postgres
	Shared  int64 // answered with another's answer
	Waiting int64 // now, for their turn
	Waited  time.Duration
}

const (
	defaultQuestions = 4
	restTimes        = 9               // a rest is so many times what the question took,
	restMost         = 2 * time.Second // at most
	impatience       = 10 * time.Second
	sharedRows       = 10_000 // an answer of more rows is not kept for others
)

func newTurns(slots, open int) *turns {
	return &turns{slots: make(chan struct{}, slots), open: make(chan struct{}, max(1, open)), alone: make(chan struct{}, 1), waiting: map[string]*sharing{}}
}

// Yield says whether workers have a backlog, so that questions leave them most of the machine.
func (db *DB) Yield(backlog bool) { db.turns.yield.Store(backlog) }

// Questions says what has become of the questions of this process.
func (db *DB) Questions() Questions {
	db.turns.mu.Lock()
	defer db.turns.mu.Unlock()
	return db.turns.counts
}

// sharing is a question that waits for its turn, or has it, with all who ask it.
type sharing struct {
	wanted map[string]bool // what the condition that they differ in is to be: see shape
	others int             // who ask beside the one that asks Postgres
	done   chan struct{}   // closed when there is an answer, or none to share

	rows map[string][][]any // by what was wanted, if err is nil
	kept int
	err  error
}

// ErrCrowded is of a question whose turn did not come in the time that it had.
var ErrCrowded = errors.New("so many questions are asked at the same time that this one's turn did not come")

// crowded is why somebody who waits for a turn does not get it.
func crowded(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrCrowded
	}
	return ctx.Err()
}

// errNotShared is of an answer that others cannot have: the one that asked has gone, or it was too long.
var errNotShared = errors.New("the answer is not shared")

// asking asks Postgres for all that is wanted. It calls begun when the first row is there.
type asking func(wanted []string, begun func(), row func(wanted string, values []any) error) error

// ask has a question asked in its turn, or gives the answer of one that has the same key and has not begun.
func (t *turns) ask(ctx context.Context, key, want string, row func([]any) error, ask asking) error {
	for {
		s, mine := t.join(key, want)
		if mine {
			return t.lead(ctx, key, want, s, row, ask)
		}
		select {
		case <-ctx.Done():
			return crowded(ctx)
		case <-s.done:
		}
		if errors.Is(s.err, errNotShared) {
			continue
		}
		for _, values := range s.rows[want] {
			if err := row(slices.Clone(values)); err != nil {
				return err
			}
		}
		return s.err
	}
}

func (t *turns) join(key, want string) (s *sharing, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.waiting[key]; s != nil {
		s.wanted[want] = true
		s.others++
		t.counts.Shared++
		return s, false
	}
	s = &sharing{wanted: map[string]bool{want: true}, done: make(chan struct{}), rows: map[string][][]any{}}
	t.waiting[key] = s
	return s, true
}

// lead asks for all who share.
func (t *turns) lead(ctx context.Context, key, want string, s *sharing, row func([]any) error, ask asking) error {
	defer close(s.done)
	end, err := func() {}, take(ctx, t.open)
	if err == nil {
		defer func() { <-t.open }()
		end, err = t.wait(ctx)
	}
	t.begin(key)
	if err != nil {
		s.err = errNotShared
		return err
	}
	end = sync.OnceFunc(end)
	defer end()
	var own error // the receiver's, which is nobody else's
	err = ask(slices.Sorted(maps.Keys(s.wanted)), end, func(wanted string, values []any) error {
		if s.kept++; s.kept > sharedRows {
			s.rows, s.err = nil, errNotShared
		} else if s.others > 0 {
			s.rows[wanted] = append(s.rows[wanted], slices.Clone(values)) // whoever gets a row may change it
		}
		if wanted == want && own == nil {
			own = row(values)
		}
		return own
	})
	if own != nil || ctx.Err() != nil {
		s.rows, s.err = nil, errNotShared
	}
	if s.err == nil {
		s.err = err
	}
	return err
}

// begin lets nobody share any more who asks from now on: they may know of what the snapshot lacks.
func (t *turns) begin(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, key)
}

// wait waits for a turn, which end ends.
func (t *turns) wait(ctx context.Context) (end func(), err error) {
	began := time.Now()
	t.count(func(c *Questions) { c.Waiting++ })
	defer func() {
		t.count(func(c *Questions) {
			c.Waiting--
			c.Waited += time.Since(began)
			if err == nil {
				c.Asked++
			}
		})
	}()
	yields := t.yield.Load()
	if yields {
		if err := take(ctx, t.alone); err != nil {
			return nil, err
		}
		if err := t.rest(ctx, began); err != nil {
			<-t.alone
			return nil, err
		}
	}
	if err := take(ctx, t.slots); err != nil {
		if yields {
			<-t.alone
		}
		return nil, err
	}
	turn := time.Now()
	return func() {
		<-t.slots
		if yields {
			t.mu.Lock()
			t.rested = time.Now().Add(min(restTimes*time.Since(turn), restMost))
			t.mu.Unlock()
			<-t.alone
		}
	}, nil
}

func take(ctx context.Context, from chan struct{}) error {
	select {
	case from <- struct{}{}:
		return nil
	case <-ctx.Done():
		return crowded(ctx)
	}
}

// rest waits until the rest is over, or the backlog, or the patience of who has waited since began.
func (t *turns) rest(ctx context.Context, began time.Time) error {
	const look = 50 * time.Millisecond
	for t.yield.Load() && time.Since(began) < impatience {
		t.mu.Lock()
		left := time.Until(t.rested)
		t.mu.Unlock()
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return crowded(ctx)
		case <-time.After(min(left, look)):
		}
	}
	return nil
}

func (t *turns) count(f func(*Questions)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.counts)
}
