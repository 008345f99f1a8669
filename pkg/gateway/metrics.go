package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a message and of its events, as labels.
const (
	outcomeStored    = "stored"    // the stream has the message
	outcomeDuplicate = "duplicate" // it had it already
	outcomeFailed    = "failed"    // it did not confirm it
	outcomeValid     = "valid"
	outcomeRejected  = "rejected" // stored all the same, to be a dead letter
)

// ingestMetrics is what an Ingest counts.
type ingestMetrics struct{ messages, events *prometheus.CounterVec }

func newIngestMetrics(source string) ingestMetrics {
	counter := func(name, help string, outcomes ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_gateway_" + name, Help: help, ConstLabels: prometheus.Labels{"source": source},
		}, []string{"outcome"})
		for _, outcome := range outcomes {
			c.WithLabelValues(outcome)
		}
		return c
	}
	return ingestMetrics{
		messages: counter("messages_total", "Messages taken over HTTP and published, by outcome (stored, duplicate, failed).", outcomeStored, outcomeDuplicate, outcomeFailed),
		events:   counter("events_total", "Events of the messages that the stream has stored; those that are rejected become dead letters.", outcomeValid, outcomeRejected),
	}
}

func (m ingestMetrics) count(done *ingested, p *problem) {
	switch {
	case p != nil:
		m.messages.WithLabelValues(outcomeFailed).Inc()
		return
	case done.Duplicate:
		m.messages.WithLabelValues(outcomeDuplicate).Inc()
		return
	}
	m.messages.WithLabelValues(outcomeStored).Inc()
	m.events.WithLabelValues(outcomeValid).Add(float64(done.Valid))
	m.events.WithLabelValues(outcomeRejected).Add(float64(done.Events - done.Valid))
}

// Describe is part of prometheus.Collector.
func (g *Ingest) Describe(out chan<- *prometheus.Desc) {
	g.metrics.messages.Describe(out)
	g.metrics.events.Describe(out)
}

// Collect is part of prometheus.Collector.
func (g *Ingest) Collect(out chan<- prometheus.Metric) {
	g.metrics.messages.Collect(out)
	g.metrics.events.Collect(out)
}

// Publishers are the metrics of publishers, each of which has a source of its own.
type Publishers []*Publisher

// Describe is part of prometheus.Collector. What is collected is of the publishers that there are.
func (Publishers) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (all Publishers) Collect(out chan<- prometheus.Metric) {
	messages := prometheus.NewDesc("weir_publisher_messages_total", "Messages published, by outcome (stored, duplicate, failed).", []string{"source", "outcome"}, nil)
	events := prometheus.NewDesc("weir_publisher_events_total", "Events that were given to the publisher, by outcome (stored, failed).", []string{"source", "outcome"}, nil)
	waiting := prometheus.NewDesc("weir_publisher_waiting_events", "Events that the stream has not acknowledged yet.", []string{"source"}, nil)
	for _, p := range all {
		s, source := p.Stats(), p.cfg.Source
		count := func(of *prometheus.Desc, n uint64, outcome string) {
			out <- prometheus.MustNewConstMetric(of, prometheus.CounterValue, float64(n), source, outcome)
		}
		count(messages, s.MessagesAcknowledged-s.MessagesDuplicate, outcomeStored)
		count(messages, s.MessagesDuplicate, outcomeDuplicate)
		count(messages, s.MessagesFailed, outcomeFailed)
		count(events, s.Acknowledged, outcomeStored)
		count(events, s.Failed, outcomeFailed)
		out <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(s.Accepted-s.Acknowledged-s.Failed), source)
	}
}
