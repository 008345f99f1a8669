package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/aggregation"
	"weir/pkg/child"
	"weir/pkg/definition"
	"weir/pkg/gateway"
	"weir/pkg/store"
	"weir/pkg/stream"
)

const (
	startTimeout = time.Minute
	// patience is how long nothing may be acknowledged before a measurement is given up.
	patience     = time.Minute
	natsTimeout  = 10 * time.Second
	pollLeast    = 5 * time.Millisecond
	pollMost     = 500 * time.Millisecond
	releaseAhead = 500 * time.Millisecond
	eventsStream = "EVENTS"
	bareConsumer = "bare"
)

// bed is what measurements of one load are made on: a NATS server with a stream, and a database to begin with.
type bed struct {
	name     string
	cfg      Config
	postgres *postgres
	catalog  *definition.Catalog
	streams  string // directory of the definitions
	silent   string // and of those without rules
	alerting alerting
	generate *generator
	start    time.Time // event time of the first event
	made     int       // events, ever

	server *process
	url    string
	nc     *nats.Conn
	js     jetstream.JetStream
	conn   *stream.Conn
}

// newBed starts the server, and makes the database of which each measurement gets a copy.
func newBed(ctx context.Context, cfg Config, pg *postgres, name string, files map[string]string, l load) (_ *bed, err error) {
	b := &bed{
		name: name, cfg: cfg, postgres: pg, generate: newGenerator(l),
		streams: filepath.Join(cfg.Dir, name, "streams"), silent: filepath.Join(cfg.Dir, name, "silent"),
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	for _, dir := range []string{b.streams, b.silent} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		for file, text := range files {
			if dir == b.silent && file == rulesFile {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
	}
	if b.catalog, err = definition.LoadWith(os.DirFS(b.streams), definition.Options{Dir: b.streams}); err != nil {
		return nil, err
	}
	if err := b.startNATS(); err != nil {
		return nil, err
	}
	if err := b.provision(ctx); err != nil {
		return nil, err
	}
	return b, b.applyTemplate(ctx)
}

func (b *bed) startNATS() (err error) {
	dir := filepath.Join(b.cfg.Dir, b.name)
	args := []string{"bench", "nats", "--dir", dir}
	if b.cfg.SyncAlways {
		args = append(args, "--sync-always")
	}
	if b.server, err = spawn("NATS", b.cfg.Program, filepath.Join(dir, "nats.log"), child.Environment(dir), args...); err != nil {
		return err
	}
	if b.url, err = b.server.line(); err != nil {
		return err
	}
	if b.nc, err = nats.Connect(b.url, nats.Name("weir bench")); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(natsTimeout))
	return err
}

func (b *bed) provision(ctx context.Context) (err error) {
	if b.conn == nil {
		if b.conn, err = stream.Connect(ctx, stream.Config{URL: b.url, Name: "weir bench"}); err != nil {
			return err
		}
	}
	_, err = b.conn.Provision(ctx, b.cfg.Provision)
	return err
}

func (b *bed) applyTemplate(ctx context.Context) error {
	if err := b.postgres.create(ctx, b.name, ""); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: b.postgres.url(b.name), Name: "weir bench"})
	if err != nil {
		return err
	}
	return errors.Join(db.Apply(ctx, b.catalog.Aggregations, store.PlanOptions{}), db.Close())
}

// fill publishes events, made up now: their time ends about now.
func (b *bed) fill(ctx context.Context, events int) error {
	var publishers []*gateway.Publisher
	for i := range b.generate.load.gateways {
		p, err := b.publisher(i, -1)
		if err != nil {
			return err
		}
		publishers = append(publishers, p)
	}
	for range events {
		at := b.start.Add(time.Duration(b.made) * time.Second / time.Duration(b.generate.load.perSecond))
		e := b.generate.next(at)
		if err := publishers[e.gateway].Publish(ctx, e.eventType, e.json); err != nil {
			return err
		}
		b.made++
	}
	for _, p := range publishers {
		if err := p.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

// publisher is that of a gateway.
func (b *bed) publisher(gatewayNumber int, linger time.Duration) (*gateway.Publisher, error) {
	return gateway.NewPublisher(b.conn, gateway.PublisherConfig{
		Source: fmt.Sprintf("gw-%d", gatewayNumber), BatchEvents: b.cfg.Batch, BatchBytes: mostBytes, Linger: linger,
		MaxInFlight: 1024, HeartbeatEvery: -1,
	})
}

// empty makes the stream anew.
func (b *bed) empty(ctx context.Context) error {
	if err := b.js.DeleteStream(ctx, eventsStream); err != nil {
		return fmt.Errorf("delete the stream: %w", err)
	}
	return b.provision(ctx)
}

// hold makes a consumer anew that has delivered nothing, and delivers nothing before release.
func (b *bed) hold(ctx context.Context, name string) error {
	if err := b.js.DeleteConsumer(ctx, eventsStream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s: %w", name, err)
	}
	if err := b.provision(ctx); err != nil { // the workers' consumer, if it was that
		return err
	}
	if name == bareConsumer {
		fold, err := b.js.Consumer(ctx, eventsStream, stream.FoldConsumer)
		if err != nil {
			return err
		}
		config := fold.CachedInfo().Config
		config.Name, config.Durable, config.Description = name, name, ""
		if _, err := b.js.CreateConsumer(ctx, eventsStream, config); err != nil {
			return fmt.Errorf("make consumer %s: %w", name, err)
		}
	}
	if _, err := b.js.PauseConsumer(ctx, eventsStream, name, time.Now().Add(24*time.Hour)); err != nil {
		return fmt.Errorf("hold consumer %s: %w", name, err)
	}
	return nil
}

// ready waits until so many processes ask the consumer for messages.
func (b *bed) ready(ctx context.Context, name string, processes []*process) error {
	return b.poll(ctx, name, processes, startTimeout, func(info *jetstream.ConsumerInfo) bool { return info.NumWaiting >= len(processes) })
}

// release lets the consumer deliver from a moment on, which is far enough ahead to look at everything before. The server
// wakes a consumer at that moment; one whose pause is only cancelled it may leave asleep for many seconds.
func (b *bed) release(ctx context.Context, name string) (at time.Time, err error) {
	at = time.Now().Add(releaseAhead)
	if _, err := b.js.PauseConsumer(ctx, eventsStream, name, at); err != nil {
		return at, fmt.Errorf("release consumer %s: %w", name, err)
	}
	return at, nil
}

// drained waits until all that the stream had when it was asked is acknowledged.
func (b *bed) drained(ctx context.Context, name string, processes []*process) error {
	s, err := b.js.Stream(ctx, eventsStream)
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	return b.poll(ctx, name, processes, patience, func(info *jetstream.ConsumerInfo) bool {
		return info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream >= last
	})
}

// poll asks for the state of a consumer until it is as wanted. It fails when a process ends, or when nothing changes any more.
func (b *bed) poll(ctx context.Context, name string, processes []*process, limit time.Duration, done func(*jetstream.ConsumerInfo) bool) error {
	began, changed, floor := time.Now(), time.Now(), uint64(0)
	for {
		consumer, err := b.js.Consumer(ctx, eventsStream, name)
		if err != nil {
			return fmt.Errorf("ask for consumer %s: %w", name, err)
		}
		info := consumer.CachedInfo()
		if done(info) {
			return nil
		}
		if info.AckFloor.Stream != floor {
			changed, floor = time.Now(), info.AckFloor.Stream
		}
		if time.Since(changed) > limit {
			return fmt.Errorf("nothing is acknowledged for %s: %d messages to be delivered, %d delivered and not acknowledged, %d requests", limit, info.NumPending, info.NumAckPending, info.NumWaiting)
		}
		for _, p := range processes {
			select {
			case <-p.Done():
				return p.failed()
			default:
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause(time.Since(began), info)):
		}
	}
}

// pause is how long to wait before a consumer is asked for again: each time costs the server about half a millisecond, so
// it is a part of what is left at the pace so far.
func pause(since time.Duration, info *jetstream.ConsumerInfo) time.Duration {
	done := float64(info.AckFloor.Stream)
	if done == 0 {
		return min(max(since/10, pollLeast), pollMost)
	}
	left := float64(info.NumPending) + float64(info.NumAckPending)
	return min(max(time.Duration(float64(since)*left/done/4), pollLeast), pollMost)
}

// countRows counts the rows of all aggregations at all levels.
func (b *bed) countRows(ctx context.Context, db *sql.DB) (total int64, err error) {
	for _, def := range b.catalog.Aggregations {
		for _, level := range def.Granularities {
			n, err := countRows(ctx, db, def, level)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

func countRows(ctx context.Context, db *sql.DB, def *aggregation.Definition, level aggregation.Granularity) (n int64, err error) {
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM weir_data."`+def.Table(level)+`"`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the rows of %s per %s: %w", def.Name, level, err)
	}
	return n, nil
}

// database is the name of the copy that a measurement works on.
func (b *bed) database() string { return b.name + "_run" }

func (b *bed) close() {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.nc != nil {
		b.nc.Close()
	}
	if b.server != nil {
		if b.server.stop() != nil { // it is killed then
			return
		}
	}
}

// keepLong replaces the retention of seconds, which are minutes in the pack, so that nothing is purged before it is compared.
func keepLong(text string) string {
	text = strings.ReplaceAll(text, "seconds: 5 minutes", "seconds: 2 days")
	return strings.ReplaceAll(text, "seconds: 1 hour", "seconds: 2 days")
}
