package audit

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestReport_SumsOfWhatStrangersSayStayNumbers(t *testing.T) {
	t.Parallel()
	r := &Report{}
	for range 3 {
		r.Findings = append(r.Findings,
			Finding{Kind: kindStream, Lost: 3999999999999999999, Duplicated: 3999999999999999999},
			Finding{Kind: kindAggregate, Aggregation: "A", Level: "hours", Lost: 3999999999999999999, Duplicated: 3999999999999999999})
	}
	lost := r.LostBy()
	if lost["source"] != math.MaxInt64 || lost["aggregates"] != math.MaxInt64 || r.duplicated() != math.MaxInt64 {
		t.Errorf("got %v, %d", lost, r.duplicated())
	}
	if got := plus(-3, math.MinInt64+1); got != math.MinInt64 {
		t.Errorf("got %d", got)
	}
	if got := plus(-3, math.MaxInt64); got != math.MaxInt64-3 {
		t.Errorf("got %d", got)
	}
}

func TestAudit_FindsRowsWhoseBucketIsNoTime(t *testing.T) {
	t.Parallel()
	h := folded(t)
	for _, bucket := range []string{"infinity", "-infinity"} {
		h.exec(`
			INSERT INTO weir_data.apiversionperappagg_days
			SELECT (jsonb_populate_record(t, jsonb_build_object('bucket', $1::text))).* FROM weir_data.apiversionperappagg_days t LIMIT 1`, bucket)
		if r := h.full(); r.Green() || len(r.Findings) != 1 || r.Findings[0].Level != "days" {
			t.Errorf("%s: %s: %+v", bucket, r.Sentence(), r.Findings)
		}
		clear(h.turn) // days too
		if r := h.pass(); r.Green() || len(r.Findings) != 1 {
			t.Errorf("%s: then %s: %+v", bucket, r.Sentence(), r.Findings)
		}
		h.exec(`DELETE FROM weir_data.apiversionperappagg_days WHERE bucket = $1`, bucket)
		h.green(h.full())
	}
}

func TestAudit_FindsABorderThatIsLaterThanTheRetention(t *testing.T) {
	t.Parallel()
	h := folded(t)
	set := func(level, before string) {
		h.exec(`INSERT INTO weir.purged (aggregation, level, before) VALUES ('ApiVersionPerAppAgg', $1, $2)
			ON CONFLICT (aggregation, level) DO UPDATE SET before = excluded.before`, level, before)
	}
	set("hours", "2024-01-01") // as a purge does
	h.green(h.full())
	for _, before := range []string{"2999-01-01 00:00:00+00", "infinity"} {
		set("hours", before)
		r := h.pass()
		if r.Green() || len(r.Findings) != 1 || r.Findings[0].Kind != kindPurged || !strings.Contains(r.Findings[0].Detail, "ApiVersionPerAppAgg per hours") {
			t.Fatalf("%s: %+v", r.Sentence(), r.Findings)
		}
		t.Log(r.Findings[0].Detail)
	}
	// A border that is past, and younger than the retention, as after that was made longer.
	set("hours", time.Now().Add(-time.Hour).Format(time.RFC3339))
	if r := h.pass(); !r.Green() || len(r.Findings) != 1 || r.Findings[0].Kind != kindBorder {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	t.Log(h.pass().Findings[0].Detail)
	// But there are rows below it.
	h.exec(`
		INSERT INTO weir_data.apiversionperappagg_hours
		SELECT (jsonb_populate_record(t, jsonb_build_object('bucket', date_trunc('hour', now() - interval '1 day')))).* FROM weir_data.apiversionperappagg_hours t LIMIT 1`)
	if r := h.pass(); r.Green() || len(r.Findings) != 1 || r.Findings[0].Kind != kindPurged {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	h.exec(`DELETE FROM weir_data.apiversionperappagg_hours WHERE bucket > now() - interval '2 days'`)
	set("hours", "2024-01-01")
	h.green(h.pass())
}

// certified writes a certificate of the hour that is over.
func certified(t *testing.T) *harness {
	t.Helper()
	h := folded(t)
	if r := h.full(); r.Certificates.Count != 0 {
		t.Fatalf("a certificate of before there was a shard: %+v", r.Certificates)
	}
	h.exec(`UPDATE weir.shard SET created_at = created_at - interval '3 hours'`)
	h.exec(`UPDATE weir.aggregation SET applied_at = applied_at - interval '3 hours'`)
	if r := h.full(); r.Certificates.Count != 1 {
		t.Fatalf("no certificate: %+v %+v", r.Certificates, r.Stream)
	}
	return h
}

func TestAudit_FindsRowsDeletedTogetherWithTheirControlTotals(t *testing.T) {
	t.Parallel()
	h := certified(t)
	for _, level := range []string{"seconds", "minutes", "hours", "days", "months", "years"} {
		_, err := h.db.ExecContext(t.Context(), `DELETE FROM weir_data.apiversionperappagg_`+level)
		if err != nil {
			t.Fatal(err)
		}
	}
	h.exec(`DELETE FROM weir.control WHERE aggregation = 'ApiVersionPerAppAgg'`)
	r := h.full()
	if r.Green() || r.Lost != 90 || len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].Detail, "ApiVersionPerAppAgg: certificate 1 says that 90 events were folded, and the control totals have 0") {
		t.Fatalf("%s: %+v", r.Sentence(), r.Findings)
	}
	h.exec(`UPDATE weir.aggregation SET applied_at = now() WHERE id = 'ApiVersionPerAppAgg'`) // dropped, and made anew
	h.green(h.full())
}

func TestAudit_AContinuousAuditorVerifiesTheCertificates(t *testing.T) {
	t.Parallel()
	h := certified(t)
	if _, err := h.db.ExecContext(t.Context(), `ALTER TABLE weir.audit_certificate DISABLE TRIGGER only_appended`); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE weir.audit_certificate SET body = replace(body, '"number":1', '"number":2')`)
	h.green(h.pass()) // it has been verified less than an hour ago
	h.chained = time.Now().Add(-certificatesEvery)
	if r := h.pass(); r.Green() || r.Findings[0].Kind != kindCertificate {
		t.Errorf("%s: %+v", r.Sentence(), r.Findings)
	}
	h.exec(`UPDATE weir.audit_certificate SET body = replace(body, '"number":2', '"number":1')`)
	h.green(h.full())
	h.exec(`UPDATE weir.audit_certificate SET body = replace(body, '"number":1', '"number":2')`)
	if r, err := New(h.db, h.stream, Config{}).Pass(t.Context()); err != nil || r.Green() { // one that begins
		t.Errorf("%v %+v", err, r)
	}
	marked := ""
	if _, err := h.Certificates(t.Context(), func(_ *Certificate, _, wrong string) { marked += wrong }); err != nil || !strings.Contains(marked, "was changed") {
		t.Errorf("%q %v", marked, err)
	}
}

func TestFinding_KeepsItsNumberAndTakesNone(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for range 5 {
		for _, subject := range []string{"a", "b"} {
			if err := h.note(t.Context(), Finding{Kind: kindStream, Subject: subject, Lost: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.note(t.Context(), Finding{Kind: kindStream, Subject: "c", Lost: 1}); err != nil {
		t.Fatal(err)
	}
	if n := number(t, h.db, `SELECT max(id) FROM weir.audit_finding`); n != 3 {
		t.Errorf("the third finding has number %d", n)
	}
	if detail, err := h.Accept(t.Context(), 0); err == nil {
		t.Errorf("accepted finding 0: %q", detail)
	}
}

func TestSentence_DoesNotSayAllWhereFindingsAreAccepted(t *testing.T) {
	t.Parallel()
	r := &Report{Accepted: 6}
	if got := r.Sentence(); !strings.HasPrefix(got, "0 events: all but 6 accepted findings accounted for, verified") {
		t.Errorf("got %q", got)
	}
}
