package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"weir/pkg/aggregation"
)

func TestMergeShard_GivesAnAddedLevelWhatWasMovedInBefore(t *testing.T) {
	t.Parallel()
	older, newer := growing("Calls", 1, false), growing("Calls", 1, true)
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted %v", compacted), func(t *testing.T) {
			t.Parallel()
			db := migrated(t, older)
			writeShard(t, db, "a", older, 1)
			writeShard(t, db, "b", older, 2)
			mustMerge(t, db, upkeepOf(older), "a", "b")
			mustApply(t, db, PlanOptions{}, newer)
			writeShard(t, db, "c", newer, 3)
			mustMerge(t, db, upkeepOf(newer), "c", "b")
			if compacted {
				if _, err := db.Compact(t.Context(), 0, []*aggregation.Definition{newer}); err != nil {
					t.Fatal(err)
				}
			}
			if got := sumOf(t, db, newer, aggregation.Months); got != "3 6" {
				t.Errorf("after the merge: got %s, want 3 6", got)
			}
			writeShard(t, db, "b", newer, 4)
			writeShard(t, db, "b", newer, 5)
			if got := sumOf(t, db, newer, aggregation.Months); got != "5 15" {
				t.Errorf("after two flushes: got %s, want 5 15", got)
			}
		})
	}
}

// left merges b into c, and leaves b's tables, until done is called.
func left(t *testing.T, db *DB, def *aggregation.Definition) (done func()) {
	t.Helper()
	tx, err := db.sql.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `SELECT FROM weir.shard`); err != nil {
		t.Fatal(err)
	}
	u := upkeepOf(def)
	u.Patience = 1
	if _, err := db.MergeShard(t.Context(), u, "b", "c"); err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

func TestMergeShard_IntoOneThatMovedOnMeanwhileIsRefused(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 1, false)
	db := migrated(t, def)
	for i, id := range []string{"a", "b", "c"} {
		writeShard(t, db, id, def, i+1)
	}
	done := left(t, db, def)
	if _, err := db.moveShard(t.Context(), upkeepOf(def), "a", "b"); err == nil || !strings.Contains(err.Error(), "moved on meanwhile") {
		t.Errorf("got %v", err)
	}
	done()
	mustMerge(t, db, upkeepOf(def), "b", "c")
	if got := sumOf(t, db, def, aggregation.Days); got != "3 6" {
		t.Errorf("got %s, want 3 6", got)
	}
}

func TestRetireShard_OfAMovedOneIsRefused(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 1, false)
	db := migrated(t, def)
	writeShard(t, db, "b", def, 1)
	writeShard(t, db, "c", def, 2)
	done := left(t, db, def)
	done()
	if _, err := db.RetireShard(t.Context(), upkeepOf(def), "b"); err == nil || !strings.Contains(err.Error(), "weir shard merge b --into c") {
		t.Errorf("got %v", err)
	}
	// Nor is a watermark that it got in another way in the way of the merge.
	mustExec(t, db, `INSERT INTO weir.watermark (shard_id, aggregation, level, batch_no) VALUES ('b', 'Calls', 'hours', 1)`)
	mustMerge(t, db, upkeepOf(def), "b", "c")
}

func TestShards_MovedIntoThatOfBackfillsAreRefused(t *testing.T) {
	t.Parallel()
	def := growing("Calls", 0, false)
	db := migrated(t, def)
	writeShard(t, db, "a", def, 1)
	writeShard(t, db, BackfillShard, def, 2)
	for name, move := range map[string]func(context.Context, Upkeep, string, string) (Moved, error){"merge": db.MergeShard, "rename": db.RenameShard} {
		if _, err := move(t.Context(), upkeepOf(def), "a", BackfillShard); !errors.Is(err, errReserved) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	mustMerge(t, db, upkeepOf(def), BackfillShard, "a")
}

func TestErrPoolTaken_CountsItsShards(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  ErrPoolTaken
		want string
	}{
		{ErrPoolTaken{Pool: []string{"pool-1"}}, "pool-1 is in use by live workers: "},
		{ErrPoolTaken{Pool: []string{"pool-1"}, Closed: 1}, "pool-1 is retired or moved: "},
		{ErrPoolTaken{Pool: []string{"p-1", "p-2"}, Closed: 1}, "all 2 shards p-1 to p-2 are in use by live workers, or retired or moved (1): "},
	} {
		if got := tt.err.Error(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("got %s, want %s…", got, tt.want)
		}
	}
}

func TestMergeShard_WithOlderDefinitionsIsRefused(t *testing.T) {
	t.Parallel()
	older, newer := growing("Calls", 1, false), growing("Calls", 1, true)
	db := migrated(t, older)
	writeShard(t, db, "a", older, 1)
	mustApply(t, db, PlanOptions{}, newer)
	writeShard(t, db, "b", newer, 2) // its months are ahead of what the merge would bring
	if _, err := db.MergeShard(t.Context(), upkeepOf(older), "a", "b"); err == nil || !strings.Contains(err.Error(), "weir apply") {
		t.Errorf("got %v", err)
	}
	mustMerge(t, db, upkeepOf(newer), "a", "b")
	if got := sumOf(t, db, newer, aggregation.Months); got != "2 3" {
		t.Errorf("got %s, want 2 3", got)
	}
}
