package evaluator

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/pkg/alert"
)

// Metrics is what the evaluator of a process counts, for Prometheus, since the process began.
type Metrics struct {
	alerts                     *prometheus.CounterVec
	turns, failures, late      prometheus.Counter
	turnedAt, through, waiting prometheus.Gauge
	partitions                 prometheus.Gauge
}

// NewMetrics returns metrics that no registry has yet.
func NewMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_evaluator_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_evaluator_" + name, Help: help})
	}
	return &Metrics{
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_evaluator_alerts_total", Help: "Global alerts that were recorded, by rule and state (firing, resolved).",
		}, []string{"rule", "state"}),
		turns:      counter("turns_total", "Looks at what was committed since the one before; several a second."),
		failures:   counter("failures_total", "Looks that failed, after which the evaluator begins again with what was saved."),
		late:       counter("late_events_total", "Events that came too late to change alerts."),
		turnedAt:   gauge("turn_timestamp_seconds", "When the last look succeeded; seconds since 1970."),
		through:    gauge("decided_through_timestamp_seconds", "Event time up to which everything is decided; seconds since 1970, 0 before the first event."),
		waiting:    gauge("waiting_batches", "Batches beside which something is not folded yet, so that the clock waits for it."),
		partitions: gauge("partitions", "Partitions of the rules' keys that this process has."),
	}
}

// begin begins the series of all rules at 0, so that a rate knows of their first.
func (m *Metrics) begin(rules []*alert.Rule) {
	for _, rule := range rules {
		for _, state := range []alert.State{alert.Firing, alert.Resolved} {
			m.alerts.WithLabelValues(rule.Name, string(state))
		}
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.alerts, m.turns, m.failures, m.late, m.turnedAt, m.through, m.waiting, m.partitions}
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
