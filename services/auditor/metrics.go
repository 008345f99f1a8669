package auditor

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/pkg/audit"
)

// Status is the newest report of an auditor, and a collector of the metrics that follow from it.
type Status struct {
	mu     sync.Mutex
	report *audit.Report
	failed error // of the last pass; nil: it succeeded
	passes float64
}

// NewStatus returns one without a report.
func NewStatus() *Status { return &Status{} }

// Report is the newest report, nil before the first, and with what the last
// pass failed, if it did.
func (s *Status) Report() (*audit.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, s.failed
}

func (s *Status) set(report *audit.Report, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err; err == nil {
		s.passes++
	}
	if report != nil {
		s.report = report
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_audit_"+name, help, labels, nil)
}

// Describe is part of prometheus.Collector. Describing nothing says that what
// is collected varies: there is nothing before the first pass.
func (s *Status) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (s *Status) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	r, failed, passes := s.report, s.failed, s.passes
	s.mu.Unlock()
	gauge := func(value float64, name, help string, labels ...string) {
		out <- prometheus.MustNewConstMetric(describe(name, help), prometheus.GaugeValue, value, labels...)
	}
	up := 1.0
	if failed != nil || r == nil {
		up = 0
	}
	gauge(up, "up", "1 if the last pass of the auditor succeeded.")
	out <- prometheus.MustNewConstMetric(describe("checks_total", "Passes that this auditor has made."), prometheus.CounterValue, passes)
	if r == nil {
		return
	}
	gauge(float64(r.Unaccounted), "unaccounted_events", "Acknowledged messages that are not in the ledger, or that nobody could verify, and entries that the ledger lost.")
	gauge(float64(r.Duplicated), "duplicate_events", "Events that rows have too many.")
	for link, n := range r.LostBy() {
		out <- prometheus.MustNewConstMetric(describe("lost_events", "Events, or messages, that are missing after a link.", "link"), prometheus.GaugeValue, float64(n), link)
	}
	gauge(float64(r.Stream.Repaired), "repaired_events", "Messages that were not folded when the auditor came by, and are now.")
	gauge(float64(r.Balance.Events), "events", "Events that are folded.")
	gauge(float64(r.Stream.InFlight), "in_flight_messages", "Messages that are not acknowledged yet.")
	gauge(float64(len(r.Findings)), "findings", "Findings that are open, accepted ones included.")
	gauge(float64(len(r.Findings)-r.Accepted), "open_findings", "Findings that are open and that nobody has accepted.")
	gauge(float64(r.Stream.Through.UnixMilli())/1000, "verified_through_seconds", "Everything that the stream stored until then is verified; seconds since 1970.")
	gauge(max(0, time.Since(r.Stream.Through).Seconds()), "lag_seconds", "How long ago that is.")
	drill := 1.0
	if r.Drill.At == nil || r.Drill.Problem != "" {
		drill = 0
	}
	gauge(drill, "drill_success", "1 if the last drill found everything that was planted.")
	if r.Drill.At != nil {
		gauge(float64(r.Drill.At.Unix()), "drill_timestamp_seconds", "When the last drill was; seconds since 1970.")
	}
}
