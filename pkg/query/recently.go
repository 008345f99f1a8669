package query

import (
	"context"
	"errors"
	"time"
)

// Recently returns f with its outcome kept for a while: whoever asks within that
// time after it was learned is told the same, and only one asks f at a time, so that
// f is asked about once in that time however many requests there are. A failure is
// kept too, unless it is that the one who asked f has gone.
func Recently[T any](kept time.Duration, f func(context.Context) (T, error)) func(context.Context) (T, error) {
	var (
		asking = make(chan struct{}, 1) // holds one while somebody asks; it guards what follows
		asked  time.Time
		value  T
		failed error
	)
	return func(ctx context.Context) (T, error) {
		select {
		case asking <- struct{}{}:
			defer func() { <-asking }()
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
		if !asked.IsZero() && time.Since(asked) < kept {
			return value, failed
		}
		v, err := f(ctx)
		if !errors.Is(ctx.Err(), context.Canceled) {
			value, failed, asked = v, err, time.Now()
		}
		return v, err
	}
}
