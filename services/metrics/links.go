package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/wire"
)

const (
	askTimeout = 2 * time.Second // for NATS and Postgres together; Prometheus waits for 10 s by default
	askAgain   = time.Second     // scrapes within that share an answer
)

// Links adds what NATS says of the stream and its consumer, and Postgres of all shards and of alerts. Every role that has the
// connections tells the same of it, so take the maximum over instances.
func (r *Registry) Links(links *wire.Links) {
	r.MustRegister(&linked{conn: links.Conn, db: links.DB})
}

// Stream is Links for a role that has nothing to do with Postgres.
func (r *Registry) Stream(conn *stream.Conn) {
	r.MustRegister(&linked{conn: func() *stream.Conn { return conn }})
}

// linked collects what the servers say.
type linked struct {
	conn func() *stream.Conn // nil before it is connected
	db   func() *store.DB    // likewise; no function: none is to be

	mu      sync.Mutex
	asked   time.Time
	state   *stream.State  // nil: NATS did not say
	figures *store.Figures // nil: Postgres did not say
}

// Describe is part of prometheus.Collector. Describing nothing says that what is collected varies: of a server that is away
// there is only that it is.
func (l *linked) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (l *linked) Collect(out chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var db *store.DB
	if l.db != nil {
		db = l.db()
	}
	if time.Since(l.asked) > askAgain {
		l.ask(db, l.conn())
	}
	l.collectStream(out)
	if l.db != nil {
		l.collectFigures(out)
	}
	if db != nil {
		collectPool(out, db)
	}
}

// ask asks both servers at once.
func (l *linked) ask(db *store.DB, conn *stream.Conn) {
	l.state, l.figures = nil, nil
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var both sync.WaitGroup
	if conn != nil {
		both.Go(func() {
			if state, err := conn.State(ctx); err == nil {
				l.state = &state
			}
		})
	}
	if db != nil {
		both.Go(func() {
			if figures, err := db.Figures(ctx); err == nil {
				l.figures = &figures
			}
		})
	}
	both.Wait()
	l.asked = time.Now()
}

func gauge(out chan<- prometheus.Metric, value float64, name, help string) {
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value)
}

func counter(out chan<- prometheus.Metric, value float64, name, help string) {
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value)
}

func up(there bool) float64 {
	if there {
		return 1
	}
	return 0
}

func (l *linked) collectStream(out chan<- prometheus.Metric) {
	s := l.state
	gauge(out, up(s != nil), "weir_stream_up", "1 if NATS answers and has the stream and the consumer.")
	if s == nil {
		return
	}
	gauge(out, float64(s.Messages), "weir_stream_messages", "Messages that the stream EVENTS holds.")
	gauge(out, float64(s.Bytes), "weir_stream_bytes", "Bytes that it holds; at its limit it refuses what is published.")
	gauge(out, float64(s.LastSequence), "weir_stream_last_sequence", "Sequence of its newest message.")
	gauge(out, float64(s.Pending), "weir_consumer_pending_messages", "Messages that no worker has been given yet.")
	gauge(out, float64(s.AckPending), "weir_consumer_ack_pending_messages", "Messages that workers were given and have not acknowledged.")
	gauge(out, float64(s.Redelivered), "weir_consumer_redelivered_messages", "Those of them that were delivered more than once.")
	gauge(out, float64(s.Behind), "weir_consumer_behind_messages", "How far the stream is ahead of what is acknowledged; 0: all is folded.")
	gauge(out, max(0, time.Since(s.CompleteThrough).Seconds()), "weir_complete_through_age_seconds", "How long ago the moment is up to which all that was stored is folded.")
}

func (l *linked) collectFigures(out chan<- prometheus.Metric) {
	f := l.figures
	gauge(out, up(f != nil), "weir_postgres_up", "1 if Postgres answers and has the tables.")
	if f == nil {
		return
	}
	counter(out, float64(f.Messages), "weir_messages_total", "Messages folded by all shards, since the first; as weir shard list says it.")
	counter(out, float64(f.Events), "weir_events_total", "Events folded by all shards.")
	counter(out, float64(f.DeadLetters), "weir_dead_letters_total", "Dead letters ever written, whatever has become of them.")
	counter(out, float64(f.OtherEvents), "weir_other_events_total", "Events that lost the name of their group to __other__, for each aggregation anew.")
	gauge(out, float64(f.LiveShards), "weir_live_shards", "Shards that some worker holds.")
	gauge(out, float64(f.Outbox), "weir_alerts_unpublished", "Alerts that are recorded and not published yet.")
	gauge(out, float64(f.Evidence), "weir_alert_evidence_batches", "Batches whose evidence some evaluator still needs.")
	gauge(out, f.EvidenceAge.Seconds(), "weir_alert_evidence_age_seconds", "How long the oldest evidence has been there; more than a minute: no weir alerter takes it in.")
	gauge(out, float64(f.Unsent), "weir_notifications_waiting", "Notifications that no receiver has accepted yet.")
}

// collectPool is of this process alone.
func collectPool(out chan<- prometheus.Metric, db *store.DB) {
	s := db.PoolStats()
	gauge(out, float64(s.MaxOpenConnections), "weir_postgres_connections_max", "Most connections that this process may have: postgres.max_open.")
	gauge(out, float64(s.InUse), "weir_postgres_connections_in_use", "Connections at work.")
	gauge(out, float64(s.Idle), "weir_postgres_connections_idle", "Connections open and unused.")
	counter(out, float64(s.WaitCount), "weir_postgres_connection_waits_total", "How often a connection was waited for.")
	counter(out, s.WaitDuration.Seconds(), "weir_postgres_connection_wait_seconds_total", "How long, all together.")
	q := db.Questions()
	counter(out, float64(q.Asked), "weir_questions_asked_total", "Questions that Postgres was asked.")
	counter(out, float64(q.Shared), "weir_questions_shared_total", "Questions that were answered with the answer to another one that was the same and had not begun.")
	counter(out, q.Waited.Seconds(), "weir_question_wait_seconds_total", "How long those that were asked have waited for their turn, all together.")
	gauge(out, float64(q.Waiting), "weir_questions_waiting", "Questions that wait for their turn now, the same ones once.")
}
