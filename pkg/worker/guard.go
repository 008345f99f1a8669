package worker

import (
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
)

// otherEvery is how often, at most, there is a warning about groups beyond a cap.
const otherEvery = time.Minute

// otherLog warns about groups beyond a cap: once for each aggregation, level
// and bucket, and never more than a line a minute.
type otherLog struct {
	last   time.Time
	told   map[otherBucket]bool
	events int64 // diverted since the last line
}

type otherBucket struct {
	def    *aggregation.Definition
	level  aggregation.Granularity
	bucket int64
}

// note takes in what a flush diverted, and logs a line if one is due.
func (l *otherLog) note(now time.Time, log *zap.Logger, others ...aggregation.Other) {
	for _, o := range others {
		l.events += o.Events
		at := otherBucket{o.Definition, o.Level, o.Bucket}
		if l.told[at] || now.Sub(l.last) < otherEvery {
			continue
		}
		const most = 1 << 12 // lines ago that are remembered
		if l.told == nil || len(l.told) >= most {
			l.told = map[otherBucket]bool{}
		}
		log.Warn("more groups than max_groups in a bucket: the events of the others count in the group "+aggregation.OtherGroup+
			"; raise max_groups of the aggregation, or group by fewer values, paths for instance by template(path)",
			zap.String("aggregation", o.Definition.Name), zap.Stringer("level", o.Level),
			zap.Time("bucket", time.UnixMicro(o.Bucket).UTC()), zap.Int("max_groups", o.Definition.MaxGroups),
			zap.Int64("events_since_last_warning", l.events))
		l.told[at], l.last, l.events = true, now, 0
	}
}
