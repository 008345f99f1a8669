package query

import (
	"errors"
	"net/http"
	"net/url"

	"weir/pkg/audit"
)

// AuditReport is how the API shows how things stood after the last pass of an
// auditor, the proof that every event is counted once.
type AuditReport struct {
	*audit.Report

	Sentence string `json:"sentence"` // the result for people
	Green    bool   `json:"green"`    // nothing is left that is not accounted for
}

// NewAuditReport describes a report.
func NewAuditReport(report *audit.Report) AuditReport {
	r := *report
	r.Sources = append([]audit.Source{}, r.Sources...) // never null
	r.Findings = append([]audit.Finding{}, r.Findings...)
	return AuditReport{&r, r.Sentence(), r.Green()}
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	if s.Audit == nil {
		return &Error{http.StatusNotFound, "this server knows of no audit; `weir audit` makes one"}
	}
	report, err := s.Audit(r.Context())
	if errors.Is(err, audit.ErrBusy) {
		return &Error{http.StatusServiceUnavailable, "no auditor has finished a pass yet: `weir auditor` makes one every few seconds, `weir audit` one"}
	}
	if err != nil {
		return err
	}
	return s.json(w, r, NewAuditReport(report))
}
