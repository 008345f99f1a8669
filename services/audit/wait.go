package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/pkg/audit"
)

const (
	busyTimeout = time.Minute
	waitTimeout = time.Minute
	retryEvery  = 200 * time.Millisecond
)

// Full verifies everything; with wait, after all that the stream had when it was
// called is folded, and until nothing is left to repair. Another auditor at work
// is waited for. What a minute was not enough for is an error, beside the report
// of how things stand then.
func Full(ctx context.Context, auditor *audit.Auditor, wait bool) (*audit.Report, error) {
	if !wait {
		return full(ctx, auditor)
	}
	return settled(ctx, auditor, waitTimeout)
}

func settled(ctx context.Context, auditor *audit.Auditor, timeout time.Duration) (*audit.Report, error) {
	deadline := time.Now().Add(timeout)
	_, target, err := auditor.Progress(ctx)
	if err != nil {
		return nil, err
	}
	left, err := poll(ctx, deadline, func() (uint64, error) {
		floor, last, err := auditor.Progress(ctx)
		return min(target, last) - min(target, last, floor), err
	})
	if err != nil {
		return nil, err
	}
	report, err := full(ctx, auditor)
	if left > 0 && err == nil {
		err = gaveUp(timeout, left, "in flight")
	}
	for err == nil && report.Stream.Holes > 0 {
		var waiting, open uint64
		if waiting, err = repairs(ctx, auditor); err != nil || waiting == 0 {
			break // it is not repaired, or not to be
		}
		open, err = poll(ctx, deadline, func() (uint64, error) { return repairs(ctx, auditor) })
		if err == nil {
			report, err = full(ctx, auditor)
		}
		if err == nil && open > 0 {
			err = gaveUp(timeout, open, "to be repaired")
		}
	}
	return report, err
}

func repairs(ctx context.Context, auditor *audit.Auditor) (uint64, error) {
	n, err := auditor.Repairs(ctx)
	return uint64(max(0, n)), err
}

func gaveUp(after time.Duration, n uint64, state string) error {
	verb := "messages are"
	if n == 1 {
		verb = "message is"
	}
	return errResidue{fmt.Sprintf("gave up after %s: %s %s still %s", short(after), count(n), verb, state)}
}

// short writes whole minutes as 1m, not 1m0s.
func short(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// full is a complete pass, once no other auditor is at work, and no replica of
// the stream that answers lags.
func full(ctx context.Context, auditor *audit.Auditor) (*audit.Report, error) {
	var report *audit.Report
	var failed error
	_, err := poll(ctx, time.Now().Add(busyTimeout), func() (uint64, error) {
		if report, failed = auditor.Full(ctx); errors.Is(failed, audit.ErrBusy) || errors.Is(failed, audit.ErrUnread) {
			return 1, nil
		}
		return 0, nil
	})
	if err != nil {
		return nil, err
	}
	return report, failed
}

// poll calls f until nothing is left, or the deadline has passed.
func poll(ctx context.Context, deadline time.Time, f func() (left uint64, err error)) (uint64, error) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		left, err := f()
		if err != nil || left == 0 || !time.Now().Before(deadline) {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-tick.C:
		}
	}
}
