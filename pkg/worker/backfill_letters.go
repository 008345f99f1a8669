package worker

import (
	"context"
	"slices"
)

// letters brings in the dead letters that workers without the aggregation have
// replayed. The way over the messages leaves all dead letters out, whatever has
// become of them; so this is the only way for them, and the letter's own row
// tells which are in the aggregation. It comes when whoever replays one from now
// on knows the aggregation.
func (j *backfill) letters(ctx context.Context) error {
	extent, err := j.history.Extent(ctx)
	if err != nil || extent.Messages == 0 {
		return err
	}
	for {
		letters, split, err := j.db.ReplayedWithout(ctx, j.Aggregation, j.history.Incarnation(), extent.First)
		if err != nil || len(letters) == 0 {
			return err
		}
		b, err := j.worker.decodeLetters(ctx, letters)
		if err != nil {
			return err
		}
		for _, columns := range b.columns {
			for row := range columns.Len() {
				own := split[letters[columns.Messages[row]].ID]
				columns.Dropped[row] = columns.Dropped[row] || slices.Contains(own, int(columns.Offsets[row]))
			}
		}
		b.dead, b.deadOf = nil, nil // they have been letters since the replay
		if err := j.flush(ctx, b); err != nil {
			return err
		}
		j.progress.Events += b.totals().Events
	}
}
