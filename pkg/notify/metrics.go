package notify

import "github.com/prometheus/client_golang/prometheus"

// Metrics is what the Sender of a process counts, for Prometheus, since the process began. The label notifier is a name of
// the file.
type Metrics struct {
	sends   *prometheus.CounterVec
	resting *prometheus.GaugeVec
}

// Outcomes of a send, as a label.
const (
	sendAccepted = "accepted"
	sendRefused  = "refused" // these notices, and others may be accepted
	sendFailed   = "failed"  // the receiver
)

// NewMetrics returns metrics that no registry has yet.
func NewMetrics() *Metrics {
	return &Metrics{
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_notifier_sends_total", Help: "Tries to tell a receiver of alerts, by notifier and outcome (accepted, refused, failed).",
		}, []string{"notifier", "outcome"}),
		resting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_notifier_failures", Help: "How often the receiver has failed in a row; it is left alone for longer each time.",
		}, []string{"notifier"}),
	}
}

func (m *Metrics) begin(targets []*Target) {
	for _, t := range targets {
		m.resting.WithLabelValues(t.Name)
		for _, outcome := range []string{sendAccepted, sendRefused, sendFailed} {
			m.sends.WithLabelValues(t.Name, outcome)
		}
	}
}

func (m *Metrics) send(notifier string, err error) {
	outcome := sendAccepted
	switch {
	case Refused(err):
		outcome = sendRefused
	case err != nil:
		outcome = sendFailed
	}
	m.sends.WithLabelValues(notifier, outcome).Inc()
}

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	m.sends.Describe(out)
	m.resting.Describe(out)
}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.sends.Collect(out)
	m.resting.Collect(out)
}
