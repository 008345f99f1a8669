package bench

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/pkg/aggregation"
	"weir/pkg/gateway"
	"weir/pkg/query"
	"weir/pkg/store"
	"weir/pkg/stream"
)

const (
	liveWarmUp = 3 * time.Second // before the first probe: connections, plans, caches
	paceEvery  = 2 * time.Millisecond
	liveLinger = 20 * time.Millisecond // of the publisher, its default
	probeEvery = 20 * time.Millisecond
	askEvery   = 10 * time.Millisecond // after the last answer
	askPatient = time.Minute           // for the last probe
)

// live is one measurement of how long events take from the call of Publish until an answer has them.
type live struct {
	rate      float64 // events/s that were published
	latencies []time.Duration
	problems  []string
	checked   int
}

// probes are events that can be asked for one by one. They are faults, like others of the load: all aggregations are written in
// the same transaction, and that of faults is quick to ask.
type probes struct {
	question func(from, until time.Time) (*query.Question, error)
	db       *store.DB

	mu        sync.Mutex
	sent      []time.Time
	latencies []time.Duration // by probe; 0: not seen yet
	closed    bool            // no more are sent
}

// probeAPI is no API of the load.
func probeAPI() api { return api{name: 1 << 30, version: 0} }

// live publishes at the rate for Config.LiveFor, while workers fold.
func (b *bed) live(ctx context.Context, rate float64, memory *Memory) (*live, error) {
	database := b.database()
	b.generate = newGenerator(b.generate.load) // with a new tally
	if err := b.postgres.create(ctx, database, b.name); err != nil {
		return nil, err
	}
	if err := b.empty(ctx); err != nil {
		return nil, err
	}
	workers, end, err := b.measured(ctx, database, memory)
	if err != nil {
		return nil, err
	}
	defer end()
	l, err := b.liveLoad(ctx, database, rate)
	if err != nil {
		return nil, err
	}
	if err := b.drained(ctx, stream.FoldConsumer, workers); err != nil {
		return nil, err
	}
	if err := stopAll(workers); err != nil {
		return nil, err
	}
	if l.problems, l.checked, err = b.check(ctx, database); err != nil {
		return nil, err
	}
	return l, b.postgres.drop(ctx, database)
}

// liveLoad publishes, and asks until it has seen every probe.
func (b *bed) liveLoad(ctx context.Context, database string, rate float64) (*live, error) {
	db, catalog, err := b.open(ctx, database)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	p := &probes{db: db, question: func(from, until time.Time) (*query.Question, error) {
		return query.Parse(catalog, "ApiFaultyInvocationAgg", url.Values{
			"within": {fmt.Sprintf("%d,%d", from.UnixMilli(), until.UnixMilli())}, "per": {aggregation.Seconds.String()},
			"where": {`apiContext == "` + probeAPI().context() + `"`}, "group_by": {"applicationId"}, "select": {"applicationId"},
		})
	}}
	l := &live{}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { l.rate, err = b.publish(ctx, rate, p); return err })
	group.Go(func() error { return p.ask(ctx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	l.latencies = p.latencies
	return l, nil
}

// publish publishes at the rate, and returns the rate that it has reached.
func (b *bed) publish(ctx context.Context, rate float64, p *probes) (float64, error) {
	var publishers []*gateway.Publisher
	for i := range b.generate.load.gateways {
		publisher, err := b.publisher(i, liveLinger)
		if err != nil {
			return 0, err
		}
		publishers = append(publishers, publisher)
	}
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	begun, published := time.Now(), 0
	probed := begun.Add(liveWarmUp)
	for now := begun; now.Sub(begun) < liveWarmUp+b.cfg.LiveFor; {
		for due := int(rate * now.Sub(begun).Seconds()); published < due; published++ {
			if published%64 == 0 {
				now = time.Now() // where it lags behind, each event has its own time all the same
			}
			e := b.generate.next(now)
			if err := publishers[e.gateway].Publish(ctx, e.eventType, e.json); err != nil {
				return 0, err
			}
		}
		if now = time.Now(); now.Sub(probed) >= probeEvery {
			probed = now
			e := b.generate.fault(now, call{api: probeAPI(), application: p.next(now)}, 0)
			if err := publishers[0].Publish(ctx, e.eventType, e.json); err != nil {
				return 0, err
			}
			published++
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case now = <-tick.C:
		}
	}
	p.close()
	reached := float64(published) / time.Since(begun).Seconds()
	for _, publisher := range publishers {
		if err := publisher.Close(ctx); err != nil {
			return 0, err
		}
	}
	return reached, nil
}

// next is the number of a probe that is published now.
func (p *probes) next(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent, p.latencies = append(p.sent, now), append(p.latencies, 0)
	return len(p.sent) - 1
}

func (p *probes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// waiting is when the oldest probe was sent that no answer had yet; none where there is none, and done where none is to come.
func (p *probes) waiting() (oldest time.Time, some, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, latency := range p.latencies {
		if latency == 0 {
			return p.sent[i], true, false
		}
	}
	return time.Time{}, false, p.closed
}

// see notes that an answer that has come now has the probe.
func (p *probes) see(number string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(p.sent) {
		return fmt.Errorf("an answer has the probe %q, which was not published", number)
	}
	if p.latencies[n] == 0 {
		p.latencies[n] = now.Sub(p.sent[n])
	}
	return nil
}

// ask asks for the probes that are waited for, again and again, until all are seen.
func (p *probes) ask(ctx context.Context) error {
	pause := time.NewTicker(askEvery)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		oldest, some, done := p.waiting()
		switch {
		case done:
			return nil
		case !some:
			continue
		case time.Since(oldest) > askPatient:
			return fmt.Errorf("no answer had an event %s after it was published", askPatient)
		}
		question, err := p.question(oldest.Truncate(time.Second), time.Now().Add(time.Second))
		if err != nil {
			return err
		}
		answer, err := question.Ask(ctx, p.db)
		if err != nil {
			return fmt.Errorf("ask for the probes: %w", err)
		}
		now := time.Now()
		for _, row := range answer.Rows {
			number, _ := row[0].(string)
			if err := p.see(number, now); err != nil {
				return err
			}
		}
	}
}
