package worker

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/pkg/alert"
)

const (
	thresholdsEvery = time.Second // so that what is set takes effect within two
	thresholdsWait  = 5 * time.Second
)

// thresholds are those that were read last. They belong to who reads them (start,
// then followThresholds), but for now, which the goroutine that evaluates looks
// at once a batch.
type thresholds struct {
	now     atomic.Pointer[alert.Thresholds]
	version string
}

// followThresholds looks once a second whether thresholds were set or unset.
// While they cannot be read, those that were read last hold on.
func (w *Worker) followThresholds(ctx context.Context) error {
	tick := time.NewTicker(thresholdsEvery)
	defer tick.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := w.caught(func() error {
			ctx, cancel := context.WithTimeout(ctx, thresholdsWait)
			defer cancel()
			return w.readThresholds(ctx)
		})
		if err != nil && ctx.Err() == nil && !said {
			w.log.Warn("thresholds not read, those that were read last hold on", zap.Error(err))
		}
		said = err != nil
	}
}

// readThresholds reads the thresholds, unless they are those that were read
// before.
func (w *Worker) readThresholds(ctx context.Context) error {
	read, version, err := w.db.ThresholdsSince(ctx, w.thresholds.version, w.catalog.Rules)
	if read != nil {
		w.thresholds.now.Store(read)
		w.thresholds.version = version
	}
	return err
}
