package bench

import (
	"time"
)

// tally counts events as they are made, by second and API version. What is stored must be the same: it shares nothing
// with the code that folds.
type tally struct {
	counts map[tallyKey]*counts
}

type tallyKey struct {
	second int64 // of the event time, since 1970 UTC; of a coarser level, the start of the bucket
	api    api
}

// counts of the events of one key.
type counts struct {
	requests, succeeded, faults, throttles int64
	responseTime                           int64 // of all requests together
	failed                                 int64 // requests with 5xx
}

func newTally() *tally { return &tally{counts: map[tallyKey]*counts{}} }

func (t *tally) at(now time.Time, of api) *counts {
	key := tallyKey{now.UnixMilli() / 1000, of}
	c := t.counts[key]
	if c == nil {
		c = &counts{}
		t.counts[key] = c
	}
	return c
}

func (t *tally) request(now time.Time, of api, code int, responseTime int64) {
	c := t.at(now, of)
	c.requests++
	c.responseTime += responseTime
	switch code / 100 {
	case 2:
		c.succeeded++
	case 5:
		c.failed++
	}
}

func (c *counts) add(d *counts) {
	c.requests += d.requests
	c.succeeded += d.succeeded
	c.faults += d.faults
	c.throttles += d.throttles
	c.responseTime += d.responseTime
	c.failed += d.failed
}

// level adds the tally up per bucket of a level.
func (t *tally) level(level string) map[tallyKey]*counts {
	if level == "seconds" {
		return t.counts
	}
	sums := map[tallyKey]*counts{}
	for key, c := range t.counts {
		key.second = bucketOf(level, key.second)
		sum := sums[key]
		if sum == nil {
			sum = &counts{}
			sums[key] = sum
		}
		sum.add(c)
	}
	return sums
}

// bucketOf is the start of the bucket, in seconds since 1970 UTC.
func bucketOf(level string, second int64) int64 {
	t := time.Unix(second, 0).UTC()
	switch level {
	case "minutes":
		return second - second%60
	case "hours":
		return second - second%3600
	case "days":
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix()
	case "months":
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Unix()
	case "years":
		return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	}
	return second
}
