package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"time"
)

// Report is what a [Run] has measured: medians of its runs. What was not measured is null.
type Report struct {
	Batch   int `json:"batch"`
	Workers int `json:"workers"`
	Runs    int `json:"runs"`

	Bare     *BareResult   `json:"bare"`
	FullPack *FoldResult   `json:"full_pack"`
	One      *FoldResult   `json:"one_aggregation"`
	Live     *LiveResult   `json:"live"`
	Alerts   *AlertsResult `json:"alerts"`      // null where there is no /proc
	PeakRSS  *Memory       `json:"peak_rss_mb"` // null where there is no /proc

	Questions *QuestionsResult `json:"questions"`

	Events      int     `json:"events"` // of a run
	EventBytes  float64 `json:"event_bytes"`
	History     int     `json:"history"`
	Cardinality float64 `json:"cardinality"`
	Skew        float64 `json:"skew"`
	Machine     Machine `json:"machine"`
	Settings    struct {
		NATSSyncAlways bool   `json:"nats_sync_always"`
		Postgres       string `json:"postgres"` // version; fsync and synchronous_commit are on
	} `json:"settings"`
}

// Machine is what the numbers are of; all processes share it.
type Machine struct {
	Cores    int    `json:"cores"`
	CPU      string `json:"cpu,omitempty"`
	MemoryMB int64  `json:"memory_mb,omitempty"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	// Others is the share of all cores that other processes had while workers folded.
	Others float64 `json:"used_by_others"`
}

// Spread is the least and the most of the runs.
type Spread struct {
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// BareResult is of the consumer that only acknowledges.
type BareResult struct {
	EventsPerSecond float64 `json:"events_per_s"`
	Spread          Spread  `json:"events_per_s_spread"`
	CPU             *CPU    `json:"cpu_us_per_event"` // worker is the consumer
}

// FoldResult is of workers. Its CPU, WAL and rows are of the time in which the events were folded; what the coarser levels
// lacked then is in AtEnd.
type FoldResult struct {
	EventsPerSecond float64 `json:"events_per_s"`
	CPU             *CPU    `json:"cpu_us_per_event"` // null where there is no /proc
	WAL             float64 `json:"wal_bytes_per_event"`
	Rows            float64 `json:"rows_per_event"` // over all aggregations and levels
	// Exact: every aggregation at every granularity has, in every bucket, as many events of each API version as
	// were published, in every run.
	Exact bool `json:"exact"`

	Spread Spread `json:"events_per_s_spread"`
	// Ratio to the bare consumer on the same stream, which each run has had just before; null where that was not measured.
	Ratio       *float64 `json:"ratio_to_bare"`
	RatioSpread *Spread  `json:"ratio_to_bare_spread"`
	// Bare is what it was compared with.
	Bare     *float64 `json:"bare_events_per_s"`
	Compared int      `json:"levels_compared"` // aggregations times granularities, in each run
	Problems []string `json:"problems,omitempty"`
	AtEnd    *AtEnd   `json:"levels_at_end"` // null where they were not completed in the time that workers have when they end
}

// AtEnd is what it took to complete the coarser levels when everything was folded. Where there is more to fold than in a measurement this is done
// from time to time, and each row is for more events.
type AtEnd struct {
	Seconds float64 `json:"seconds"`
	CPU     *CPU    `json:"cpu_us_per_event"`
	WAL     float64 `json:"wal_bytes_per_event"`
	Rows    float64 `json:"rows_per_event"`
}

// LiveResult is of events that were folded while they were published.
type LiveResult struct {
	EventsPerSecond float64  `json:"events_per_s"`
	P50             float64  `json:"p50_ms"` // from the call of Publish to an answer that has the event
	P99             float64  `json:"p99_ms"`
	Most            float64  `json:"max_ms"`
	P99Spread       Spread   `json:"p99_ms_spread"`
	Asked           float64  `json:"asked_events_per_s"` // the rate that was wanted
	Probes          int      `json:"probes"`             // of all runs
	Exact           bool     `json:"exact"`
	Problems        []string `json:"problems,omitempty"`
}

// Exact reports whether all that was measured was counted right.
func (r *Report) Exact() bool {
	return (r.FullPack == nil || r.FullPack.Exact) && (r.One == nil || r.One.Exact) && (r.Live == nil || r.Live.Exact) && (r.Alerts == nil || r.Alerts.Exact) &&
		(r.Questions == nil || r.Questions.Exact)
}

// Problems is what was counted wrong.
func (r *Report) Problems() (all []string) {
	for _, f := range []*FoldResult{r.FullPack, r.One} {
		if f != nil {
			all = append(all, f.Problems...)
		}
	}
	if r.Live != nil {
		all = append(all, r.Live.Problems...)
	}
	if r.Alerts != nil {
		all = append(all, r.Alerts.Problem...)
	}
	if r.Questions != nil {
		all = append(all, r.Questions.Problem...)
	}
	return all
}

// WriteJSON writes the report to a file, as one object.
func (r *Report) WriteJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // nothing in it is secret
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// series are the measurements of one kind, in the order of the runs.
type series struct {
	bare     []*bare // of the same run, or none
	measured []*folded
}

func (s series) result(levels int) *FoldResult {
	if len(s.measured) == 0 {
		return nil
	}
	of := func(f func(*folded) float64) float64 { return median(each(s.measured, f)) }
	rates := each(s.measured, func(f *folded) float64 { return f.rate })
	r := &FoldResult{
		EventsPerSecond: median(rates), Spread: spreadOf(rates), Exact: true,
		CPU: medianCPU(each(s.measured, func(f *folded) *CPU { return f.cpu })),
		WAL: of(func(f *folded) float64 { return f.wal }), Rows: of(func(f *folded) float64 { return f.rows }),
		Compared: levels,
	}
	if !slices.ContainsFunc(s.measured, func(f *folded) bool { return !f.rest.complete }) {
		r.AtEnd = &AtEnd{
			Seconds: of(func(f *folded) float64 { return f.rest.seconds }),
			CPU:     medianCPU(each(s.measured, func(f *folded) *CPU { return f.rest.cpu })),
			WAL:     of(func(f *folded) float64 { return f.rest.wal }), Rows: of(func(f *folded) float64 { return f.rest.rows }),
		}
	}
	for _, f := range s.measured {
		r.Exact = r.Exact && len(f.problems) == 0 && f.checked == levels
		r.Problems = append(r.Problems, f.problems...)
	}
	if len(s.bare) == len(s.measured) {
		var ratios []float64
		for i, f := range s.measured {
			ratios = append(ratios, f.rate/s.bare[i].rate)
		}
		ratio, spread, rate := median(ratios), spreadOf(ratios), median(each(s.bare, func(b *bare) float64 { return b.rate }))
		r.Ratio, r.RatioSpread, r.Bare = &ratio, &spread, &rate
	}
	return r
}

func (s series) bareResult() *BareResult {
	if len(s.bare) == 0 {
		return nil
	}
	rates := each(s.bare, func(b *bare) float64 { return b.rate })
	return &BareResult{EventsPerSecond: median(rates), Spread: spreadOf(rates), CPU: medianCPU(each(s.bare, func(b *bare) *CPU { return b.cpu }))}
}

func liveResult(all []*live, asked float64, levels int) *LiveResult {
	if len(all) == 0 {
		return nil
	}
	r := &LiveResult{Asked: asked, Exact: true}
	var p50s, p99s []float64
	for _, l := range all {
		p50s, p99s = append(p50s, millis(percentile(l.latencies, 50))), append(p99s, millis(percentile(l.latencies, 99)))
		r.Most = max(r.Most, rounded(millis(percentile(l.latencies, 100))))
		r.Probes += len(l.latencies)
		r.Exact = r.Exact && len(l.problems) == 0 && l.checked == levels
		r.Problems = append(r.Problems, l.problems...)
	}
	r.EventsPerSecond = median(each(all, func(l *live) float64 { return l.rate }))
	r.P50, r.P99, r.P99Spread = median(p50s), median(p99s), spreadOf(p99s)
	return r
}

func each[T, V any](all []T, f func(T) V) []V {
	values := make([]V, len(all))
	for i, v := range all {
		values[i] = f(v)
	}
	return values
}

// median is the middle one, or the mean of the two in the middle, rounded; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return rounded(sorted[middle])
	}
	return rounded((sorted[middle-1] + sorted[middle]) / 2)
}

func medianCPU(all []*CPU) *CPU {
	if slices.Contains(all, nil) {
		return nil
	}
	of := func(f func(*CPU) float64) float64 { return median(each(all, f)) }
	return &CPU{
		Worker: of(func(c *CPU) float64 { return c.Worker }), NATS: of(func(c *CPU) float64 { return c.NATS }), Postgres: of(func(c *CPU) float64 { return c.Postgres }),
	}
}

func spreadOf(values []float64) Spread {
	return Spread{Least: rounded(slices.Min(values)), Most: rounded(slices.Max(values))}
}

// percentile is the smallest value that p percent of the values do not exceed (nearest rank); 0 of none.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// rounded has five digits that count; nothing here is known better.
func rounded(x float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 5, 64), 64)
	if err != nil {
		return x // it was formatted here
	}
	return short
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
