package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// errOvertaken means that no trying again helps this worker.
var errOvertaken = errors.New("the tables changed under this worker: restart it with the definitions that the database has")

// current returns nil once the database is seen to have the worker's
// definitions, an error that is final if it has others.
func (w *Worker) current(ctx context.Context) error {
	for {
		differs, err := w.db.Missing(ctx, w.catalog.Aggregations)
		if err == nil && differs == "" {
			differs, err = w.db.Overtaken(ctx, w.catalog.Aggregations)
		}
		switch {
		case err != nil:
			w.log.Warn("definitions not compared with the database, trying again", zap.Error(err))
		case differs != "":
			return fmt.Errorf("%w (%s)", errOvertaken, differs)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoffBase):
		}
	}
}
