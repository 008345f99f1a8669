package worker

import (
	"context"

	"go.uber.org/zap"
)

// learnBackfills asks which aggregations are being backfilled. One that the
// worker knows it claims for: its tables were made before the worker started,
// and marked in that transaction. One that it does not know will lack what the
// worker folds, which is worth a word.
func (w *Worker) learnBackfills(ctx context.Context) error {
	all, err := w.db.Backfills(ctx)
	if err != nil {
		return err
	}
	w.backfills = nil
	for _, b := range all {
		switch known := w.catalog.Stored(b.Aggregation) != nil; {
		case known && b.Running:
			w.backfills = append(w.backfills, b.Aggregation)
		case !known && b.Running:
			w.log.Warn("an aggregation is being backfilled that these definitions lack: the backfill waits for this worker to end", zap.String("aggregation", b.Aggregation))
		case !known:
			w.log.Warn("an aggregation was backfilled that these definitions lack: it will not have what this worker folds", zap.String("aggregation", b.Aggregation))
		}
	}
	return nil
}
