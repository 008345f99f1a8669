package top

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/query"
)

const (
	// settle is how long the newest events may take from the gateway to the stream.
	settle = time.Second
	// shardsOver is the time of which the events a second of shards are, where there were so many samples.
	shardsOver = 10 * time.Second
	patience   = 10 * time.Second // for the answers of one sample
	errorsAgg  = "ApiErrorAnalysisAgg"
)

// probe asks an instance what it does. It is for one goroutine.
type probe struct {
	client *query.Client
	window time.Duration

	latency *latency // nil: not looked for yet
	through time.Time
	past    []shardSample // the oldest first
}

// latency is where percentiles of the response time come from.
type latency struct {
	aggregation string          // "" where there are none
	measures    [3]string       // of p50, p95 and p99, "" where there is none
	kept        map[string]bool // granularities
}

type shardSample struct {
	at     time.Time
	events map[string]int64
}

func newProbe(client *query.Client, window time.Duration) *probe {
	return &probe{client: client, window: window}
}

// sample is what was seen at one moment.
type sample struct {
	at         time.Time
	start, end time.Time // of the window
	through    time.Time // everything stored in the stream up to then is counted; zero where that is not known
	apis       []api
	shards     []shard
}

// api is what an API did in the window.
type api struct {
	name, version             string
	calls, e4xx, e5xx, faults float64
	throttled                 float64
	percentiles               [3]*float64 // ms; nil where there is none
	seconds                   float64     // of the window
}

// shard is a shard of a worker.
type shard struct {
	query.Shard

	rate float64 // events a second
}

func (p *probe) ask(ctx context.Context, now time.Time) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := &sample{at: now}
	per := p.interval(s)
	answer, err := p.client.Ask(ctx, errorsAgg, question(s, per, "responseCount, faultCount, throttledCount, _4xx, _5xx"))
	if err != nil {
		return nil, err
	}
	p.through, s.through = answer.CompleteThrough, answer.CompleteThrough
	for _, row := range answer.Rows {
		n := numbers(row[2:])
		s.apis = append(s.apis, api{
			name: fmt.Sprint(row[0]), version: fmt.Sprint(row[1]), seconds: s.end.Sub(s.start).Seconds(),
			calls: n[0] + n[1], faults: n[1], throttled: n[2], e4xx: n[3], e5xx: n[4],
		})
	}
	if err := p.percentiles(ctx, s, per); err != nil {
		return nil, err
	}
	shards, err := p.client.Shards(ctx)
	if err != nil {
		return nil, err
	}
	s.shards = p.rates(now, shards)
	return s, nil
}

// interval sets the window: it ends a moment ago, or up to where everything is counted, and begins with a bucket.
func (p *probe) interval(s *sample) aggregation.Granularity {
	per := aggregation.Seconds
	switch {
	case p.window > time.Hour:
		per = aggregation.Hours
	case p.window > 2*time.Minute:
		per = aggregation.Minutes
	}
	s.end = s.at.Add(-settle)
	if !p.through.IsZero() && p.through.Before(s.end) {
		s.end = p.through
	}
	s.end = s.end.Truncate(time.Second)
	s.start = time.UnixMicro(per.Truncate(s.end.Add(-p.window).UnixMicro(), time.UTC))
	return per
}

// question asks for measures by API in the window.
func question(s *sample, per aggregation.Granularity, measures string) url.Values {
	return url.Values{
		"within": {fmt.Sprintf("%d,%d", s.start.UnixMilli(), s.end.UnixMilli())}, "per": {per.String()},
		"group_by": {"apiName,apiVersion"}, "select": {"apiName, apiVersion, " + measures},
	}
}

// percentiles adds those of each API.
func (p *probe) percentiles(ctx context.Context, s *sample, per aggregation.Granularity) error {
	if p.latency == nil {
		all, err := p.client.Aggregations(ctx)
		if err != nil {
			return err
		}
		p.latency = findLatency(all)
	}
	l := p.latency
	if l.aggregation == "" || !l.kept[per.String()] {
		return nil
	}
	var names []string
	for _, name := range l.measures {
		if name != "" {
			names = append(names, name)
		}
	}
	answer, err := p.client.Ask(ctx, l.aggregation, question(s, per, strings.Join(names, ", ")))
	if err != nil {
		return err
	}
	for _, row := range answer.Rows {
		i := slices.IndexFunc(s.apis, func(a api) bool { return a.name == row[0] && a.version == row[1] })
		if i < 0 {
			continue // its first events came between the two questions
		}
		column := 2
		for n, name := range l.measures {
			if name == "" {
				continue
			}
			if row[column] != nil {
				value := numbers(row[column : column+1])[0]
				s.apis[i].percentiles[n] = &value
			}
			column++
		}
	}
	return nil
}

// findLatency is the aggregation with the fewest keys that has percentiles of the response time by API.
func findLatency(all []query.Aggregation) *latency {
	best, keys := &latency{}, 0
	for _, a := range all {
		found := latency{aggregation: a.Name, kept: map[string]bool{}}
		for _, g := range a.Granularities {
			found.kept[g] = true
		}
		columns := map[string]bool{}
		for _, key := range a.Keys {
			columns[key.Name] = true
		}
		some := false
		for _, m := range a.Measures {
			columns[m.Name] = true
			if n := slices.Index([]string{"p50", "p95", "p99"}, m.Op); n >= 0 && m.Arg == "responseTime" {
				found.measures[n], some = m.Name, true
			}
		}
		if some && columns["apiName"] && columns["apiVersion"] && (best.aggregation == "" || len(a.Keys) < keys) {
			best, keys = &found, len(a.Keys)
		}
	}
	return best
}

// rates are the shards with what they have folded a second since some seconds ago.
func (p *probe) rates(now time.Time, all []query.Shard) []shard {
	current := shardSample{at: now, events: map[string]int64{}}
	for len(p.past) > 1 && now.Sub(p.past[1].at) >= shardsOver {
		p.past = p.past[1:]
	}
	var shards []shard
	for _, s := range all {
		current.events[s.ShardID] = s.Events
		next := shard{Shard: s}
		if len(p.past) > 0 {
			first := p.past[0]
			if before, known := first.events[s.ShardID]; known {
				next.rate = max(0, float64(s.Events-before)/now.Sub(first.at).Seconds())
			}
		}
		if s.MovedTo == "" {
			shards = append(shards, next)
		}
	}
	p.past = append(p.past, current)
	return shards
}

// numbers reads cells; null is 0.
func numbers(cells []any) []float64 {
	values := make([]float64, len(cells))
	for i, cell := range cells {
		if n, ok := cell.(json.Number); ok {
			values[i], _ = n.Float64() // what is too large is +Inf
		}
	}
	return values
}
