package query

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/audit"
	"weir/pkg/store"
)

// Limits are what a question may ask for. What is beyond them is refused with what
// would be possible; nothing is cut off.
type Limits struct {
	// Buckets is how many buckets that may have events a question may be about;
	// 0 is 10,000,000.
	Buckets int
	// Rows is how many rows an answer may have; 0 is 1,000,000.
	Rows int
}

func (l Limits) withDefaults() Limits {
	return Limits{Buckets: cmp.Or(l.Buckets, 10_000_000), Rows: cmp.Or(l.Rows, 1_000_000)}
}

// limited is the question with its rows bounded, if it asks for no more than is
// possible.
func (s *Server) limited(ctx context.Context, question *Question) (*Question, error) {
	plan := question.plan
	if plan.Limit > s.Limits.Rows {
		return nil, wrong(fmt.Errorf("limit: an answer has at most %s rows; ask for the others with offset", audit.Grouped(int64(s.Limits.Rows))))
	}
	if err := s.fewBuckets(ctx, &plan); err != nil {
		return nil, err
	}
	plan.Most = s.Limits.Rows
	return &Question{Columns: question.Columns, plan: plan, millis: question.millis}, nil
}

func tooMany(e *store.TooManyRows) *Error {
	return &Error{http.StatusBadRequest, fmt.Sprintf(
		"the answer would have %s rows, and may have %s: ask for fewer with where, group_by, a shorter within or a coarser per, or for some at a time with limit and offset",
		audit.Grouped(e.Rows), audit.Grouped(e.Most))}
}

// fewBuckets refuses a question about too many buckets. Those in which nothing has
// happened do not count, but to look for that is worth it only where it may matter.
func (s *Server) fewBuckets(ctx context.Context, plan *store.Question) error {
	most := int64(s.Limits.Buckets)
	if buckets(plan.Per, plan) <= most {
		return nil
	}
	quarters, err := s.DB.Eventful(ctx, plan)
	if err != nil {
		return err
	}
	eventful := func(per aggregation.Granularity) int64 {
		return min(buckets(per, plan), quarters*max(1, int64(store.ControlPeriod/length(per))))
	}
	if eventful(plan.Per) <= most {
		return nil
	}
	possible := fmt.Sprintf("a within of %s is possible", length(plan.Per)*time.Duration(most))
	for _, per := range plan.Aggregation.Granularities {
		kept := plan.Join == nil || plan.Join.With.Keeps(per)
		if per > plan.Per && kept && eventful(per) <= most {
			possible = fmt.Sprintf("per=%s is possible, or a within of %s", per, length(plan.Per)*time.Duration(most))
			break
		}
	}
	return wrong(fmt.Errorf("within: there are about %s buckets of %s with events, and a question may be about %s; %s",
		audit.Grouped(eventful(plan.Per)), plan.Per, audit.Grouped(most), possible))
}

// buckets is about how many buckets a question is about.
func buckets(per aggregation.Granularity, plan *store.Question) int64 {
	return (plan.Until - plan.From) / length(per).Microseconds()
}

// length is about how long a bucket is.
func length(per aggregation.Granularity) time.Duration {
	start := per.Truncate(0, time.UTC)
	return time.Duration(per.Next(start, time.UTC)-start) * time.Microsecond
}
