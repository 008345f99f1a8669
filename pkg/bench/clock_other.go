//go:build !linux

package bench

import (
	"errors"
	"time"
)

// cpuClock is not known here: what needs it asks measurable first.
func cpuClock(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
