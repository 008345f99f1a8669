package worker

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/pkg/alert"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// Metrics is what the workers of one process count, for Prometheus: any number of them share it, and the label shard tells
// them apart. It counts since the process began, and only what this process knows of: what is true for good, whatever was
// killed, is in the tables (weir.shard), and a commit whose outcome was not known counts as one that failed.
type Metrics struct {
	fetched, bytes, redelivered, folded, duplicates, deadLetters, retries *prometheus.CounterVec
	flushes, alerts                                                       *prometheus.CounterVec
	seconds, messages, events                                             *prometheus.HistogramVec
	behind, flushedAt                                                     *prometheus.GaugeVec
}

// Outcomes of a flush, as a label.
const (
	flushCommitted = "committed"
	flushClaimed   = "claimed" // some of it was folded before: rolled back, and tried again without that
	flushFailed    = "failed"
)

// NewMetrics returns metrics that no registry has yet.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_worker_" + name, Help: help}, append([]string{"shard"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_worker_" + name, Help: help}, []string{"shard"})
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_worker_" + name, Help: help, Buckets: buckets}, []string{"shard"})
	}
	return &Metrics{
		fetched:     counter("messages_fetched_total", "Messages taken from the stream to be folded."),
		bytes:       counter("fetched_bytes_total", "Bytes of their bodies."),
		redelivered: counter("messages_redelivered_total", "Messages among those that the stream had delivered before."),
		folded:      counter("events_folded_total", "Events whose fold is committed."),
		duplicates:  counter("events_refused_total", "Events that the ledger refused, because they were folded before."),
		deadLetters: counter("dead_letters_total", "Dead letters written: events, or whole messages, that could not be folded."),
		retries:     counter("retries_total", "Batches that failed and were tried again."),
		flushes:     counter("flushes_total", "Flush transactions, by outcome; claimed: rolled back because some of it was folded before.", "outcome"),
		alerts:      counter("alerts_total", "Local alerts raised, by rule.", "rule"),
		seconds:     histogram("flush_seconds", "Time of a flush that was committed, from its first look at what is due to the end of the commit.", prometheus.ExponentialBuckets(0.001, 2, 15)),
		messages:    histogram("batch_messages", "Messages of a batch that was committed.", prometheus.ExponentialBuckets(1, 4, 9)),
		events:      histogram("batch_events", "Events of a batch that was committed.", prometheus.ExponentialBuckets(1, 4, 12)),
		behind:      gauge("levels_behind", "Coarser levels that were due at the last flush and not written with it."),
		flushedAt:   gauge("flush_timestamp_seconds", "When the last flush was committed; seconds since 1970."),
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.fetched, m.bytes, m.redelivered, m.folded, m.duplicates, m.deadLetters, m.retries, m.flushes, m.alerts, m.seconds, m.messages, m.events, m.behind, m.flushedAt,
	}
}

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(out)
	}
}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(out)
	}
}

// tally is the metrics of one shard.
type tally struct {
	fetched, bytes, redelivered, folded, duplicates, deadLetters, retries prometheus.Counter
	flushes, alerts                                                       *prometheus.CounterVec
	seconds, messages, events                                             prometheus.Observer
	behind, flushedAt                                                     prometheus.Gauge
}

// of begins the series of a shard, those of all rules included, at 0: so that a rate knows of their first.
func (m *Metrics) of(shard string, rules []*alert.Rule) *tally {
	label := prometheus.Labels{"shard": shard}
	t := &tally{
		fetched: m.fetched.With(label), bytes: m.bytes.With(label), redelivered: m.redelivered.With(label), folded: m.folded.With(label),
		duplicates: m.duplicates.With(label), deadLetters: m.deadLetters.With(label), retries: m.retries.With(label),
		flushes: m.flushes.MustCurryWith(label), alerts: m.alerts.MustCurryWith(label),
		seconds: m.seconds.With(label), messages: m.messages.With(label), events: m.events.With(label),
		behind: m.behind.With(label), flushedAt: m.flushedAt.With(label),
	}
	for _, outcome := range []string{flushCommitted, flushClaimed, flushFailed} {
		t.flushes.WithLabelValues(outcome)
	}
	for _, rule := range rules {
		t.alerts.WithLabelValues(rule.Name)
	}
	return t
}

func (t *tally) fetch(messages []stream.Message) {
	t.fetched.Add(float64(len(messages)))
	for i := range messages {
		t.bytes.Add(float64(len(messages[i].Data)))
		if messages[i].Deliveries > 1 {
			t.redelivered.Inc()
		}
	}
}

// flush counts a flush by what its transaction returned. A batch of no messages is for coarser levels alone, or of dead letters.
func (t *tally) flush(err error, took time.Duration, messages int, totals store.Totals, alerts func() []alert.Alert) {
	switch {
	case errors.Is(err, store.ErrClaimed):
		t.flushes.WithLabelValues(flushClaimed).Inc()
		return
	case err != nil:
		t.flushes.WithLabelValues(flushFailed).Inc()
		return
	}
	t.flushes.WithLabelValues(flushCommitted).Inc()
	t.seconds.Observe(took.Seconds())
	t.flushedAt.SetToCurrentTime()
	t.folded.Add(float64(totals.Events))
	t.deadLetters.Add(float64(totals.DeadLetters))
	if messages > 0 {
		t.messages.Observe(float64(messages))
		t.events.Observe(float64(totals.Events))
	}
	for _, a := range alerts() {
		t.alerts.WithLabelValues(a.Rule).Inc()
	}
}
