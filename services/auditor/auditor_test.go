package auditor

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/audit"
	"weir/services/metrics"
)

func TestTell_LogsEachFindingOnceUntilItIsMoreOrLess(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	finding := func(subject string, lost int64, total int) audit.Finding {
		return audit.Finding{Kind: "aggregate", Subject: subject, Lost: lost, Detail: fmt.Sprintf("%s of %d", subject, total)}
	}
	var said map[[2]string]told
	for i, c := range []struct {
		findings []audit.Finding
		want     string
	}{
		{[]audit.Finding{finding("a", 1, 10)}, "a of 10"},
		{[]audit.Finding{finding("a", 1, 20)}, ""},
		{[]audit.Finding{finding("a", 1, 30), finding("b", 2, 30)}, "b of 30"},
		{[]audit.Finding{finding("a", 2, 40), finding("b", 2, 40)}, "a of 40"},
		{[]audit.Finding{finding("b", 2, 50)}, ""},
		{nil, "the audit adds up again"},
		{nil, ""},
		{[]audit.Finding{finding("a", 2, 60)}, "a of 60"},
	} {
		said = tell(log, &audit.Report{Findings: c.findings}, said)
		var got []string
		for _, entry := range logs.TakeAll() {
			if detail, ok := entry.ContextMap()["detail"].(string); ok {
				got = append(got, detail)
			} else {
				got = append(got, entry.Message)
			}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("pass %d: got %q, want %q", i, got, c.want)
		}
	}
}

func TestMetrics_CountWhatNobodyHasAccepted(t *testing.T) {
	t.Parallel()
	s := NewStatus()
	s.set(&audit.Report{
		Accepted: 1, Unaccounted: math.MaxInt64,
		Findings: []audit.Finding{{Kind: "certificate"}, {Kind: "aggregate", Accepted: true}, {Kind: "purged too early"}},
	}, nil)
	registry := metrics.New("auditor")
	registry.MustRegister(s)
	answer := httptest.NewRecorder()
	registry.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	for _, want := range []string{"\nweir_audit_open_findings 2\n", "\nweir_audit_findings 3\n", "\nweir_audit_unaccounted_events 9.2"} {
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("no %q in %s", want, answer.Body)
		}
	}
}
