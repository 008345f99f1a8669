package worker

import (
	"context"
	"fmt"
	"slices"

	"weir/pkg/store"
)

// letters brings in the dead letters that workers without the aggregation have
// replayed. The way over the messages leaves all dead letters out, whatever has
// become of them; so this is the only way for them, and the letter's own row
// tells which are in the aggregation. It comes when whoever replays one from now
// on knows the aggregation.
//
// What cannot be folded any more, or not into this aggregation, becomes another
// letter, which only the aggregation lacks.
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
		if err := j.bringIn(ctx, letters, split); err != nil {
			return err
		}
	}
}

// bringIn folds letters, as many as fit into memory together; where one of them
// cannot be stored, or the code panics on it, that one is found by halving.
func (j *backfill) bringIn(ctx context.Context, letters []store.DeadLetter, split map[int64][]int) error {
	b, err := j.worker.decodeLetters(ctx, letters)
	if err == nil {
		letters = letters[:b.taken]
		if err := j.lacking(b, letters, split); err != nil {
			return err
		}
		err = j.flush(ctx, b)
	}
	switch {
	case ofInput(err) && len(letters) > 1:
		return j.bringIn(ctx, letters[:len(letters)/2], split)
	case ofInput(err):
		refused := newBatch(1, store.NewClaims())
		if b != nil {
			refused.origins = b.origins[:1]
		}
		refused.raised.IDs, refused.raised.Reasons = []int64{letters[0].ID}, []string{why(err)}
		if err := j.lacking(refused, letters, split); err != nil {
			return err
		}
		return j.flush(ctx, refused)
	case err != nil:
		return err
	}
	j.progress.Events += b.totals().Events
	return nil
}

// lacking takes out of the batch what are letters of their own since the replay,
// and makes letters of what the aggregation will lack.
func (j *backfill) lacking(b *batch, letters []store.DeadLetter, split map[int64][]int) error {
	for _, columns := range b.columns {
		for row := range columns.Len() {
			own := split[letters[columns.Messages[row]].ID]
			columns.Dropped[row] = columns.Dropped[row] || slices.Contains(own, int(columns.Offsets[row]))
		}
	}
	dead := slices.DeleteFunc(b.dead, func(l store.DeadLetter) bool { return slices.Contains(split[l.SplitFrom], l.Offset) })
	for i, reason := range b.raised.Reasons {
		if reason == "" {
			continue
		}
		l, some, err := without(letters[i], b.origins[i].events, split[letters[i].ID])
		if err != nil {
			return fmt.Errorf("%w: %s", err, reason)
		}
		if l.Reason = reason; some {
			dead = append(dead, l)
		}
	}
	for i := range dead {
		dead[i].Reason = fmt.Sprintf("backfill of %s: %s", j.Aggregation, dead[i].Reason)
	}
	b.dead, b.deadOf = dead, make([]int, len(dead)) // nothing is asked of it but how many they are
	return nil
}

// without returns a letter that stands for what the letter does, less the events
// that are letters of their own; and whether that is anything. The letter's
// message has so many events, 0 where that is not known.
func without(l store.DeadLetter, events int, own []int) (less store.DeadLetter, some bool, err error) {
	l.SplitFrom = 0 // what it is split from has nothing to do with this aggregation
	if l.Offset >= 0 || len(own) == 0 {
		return l, true, nil
	}
	if l.Events == nil && events == 0 {
		return l, false, fmt.Errorf("dead letter %d was folded in part, and cannot be decoded any more", l.ID)
	}
	if l.Events == nil {
		for offset := range events {
			l.Events = append(l.Events, offset)
		}
	}
	l.Events = slices.DeleteFunc(slices.Clone(l.Events), func(offset int) bool { return slices.Contains(own, offset) })
	return l, len(l.Events) > 0, nil
}
