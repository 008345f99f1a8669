package store

import (
	"time"

	"pgregory.net/rapid"

	"weir/pkg/aggregation"
)

// housekeeper is another process that compacts and purges in the test of the
// cascade.
type housekeeper struct {
	db      *DB
	def     *aggregation.Definition
	purging bool // of the two finest levels, all that can go
}

// kept lists the levels that may be asked for.
func (h housekeeper) kept() []aggregation.Granularity {
	if h.purging {
		return h.def.Granularities[2:]
	}
	return h.def.Granularities
}

func (h housekeeper) tidy(t *rapid.T) {
	t.Helper()
	if rapid.IntRange(0, 2).Draw(t, "compaction") == 0 {
		h.compact(t)
	}
	if h.purging && rapid.IntRange(0, 2).Draw(t, "purge") == 0 {
		def := *h.def
		def.Retention = map[aggregation.Granularity]time.Duration{def.Granularities[0]: 48 * time.Hour, def.Granularities[1]: 48 * time.Hour}
		if _, err := h.db.Purge(t.Context(), time.Now(), []*aggregation.Definition{&def}); err != nil {
			t.Fatal(err)
		}
	}
}

func (h housekeeper) compact(t *rapid.T) {
	t.Helper()
	if _, err := h.db.Compact(t.Context(), 0, []*aggregation.Definition{h.def}); err != nil {
		t.Fatal(err)
	}
}

// move makes the rows of one shard look as if they came from another: they have
// numbers below zero.
func (h housekeeper) move(t *rapid.T) {
	t.Helper()
	for _, level := range h.def.Granularities {
		if _, err := h.db.sql.ExecContext(t.Context(), `UPDATE `+tableOf(h.def, level)+` SET batch_no = batch_no - 1000000 WHERE shard_id = 'b'`); err != nil {
			t.Fatal(err)
		}
	}
}

func (h housekeeper) wantOneRowPerKey(t *rapid.T) {
	t.Helper()
	for _, level := range h.def.Granularities {
		key := "bucket, shard_id"
		if level != h.def.Finest() {
			key += ", weir_key"
		}
		var rows, keys, below int
		err := h.db.sql.QueryRowContext(t.Context(), `SELECT count(*), count(DISTINCT (`+key+`)), count(*) FILTER (WHERE batch_no < 0) FROM `+tableOf(h.def, level)).Scan(&rows, &keys, &below)
		if err != nil {
			t.Fatal(err)
		}
		if rows != keys || below > 0 {
			t.Errorf("per %s: %d rows for %d buckets and keys, %d numbered below zero", level, rows, keys, below)
		}
	}
}

// emptyTables forgets all that was folded; batch numbers go on.
func emptyTables(t *rapid.T, db *DB, def *aggregation.Definition) {
	t.Helper()
	statements := []string{"DELETE FROM weir.watermark", "DELETE FROM weir.compacted"}
	for _, level := range def.Granularities {
		statements = append(statements, "TRUNCATE "+tableOf(def, level))
	}
	for _, statement := range statements {
		if _, err := db.sql.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}
