package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Run measures. It returns the report also where counts are wrong; [Report.Exact] tells. Everything that it has started has ended when it returns,
// also when ctx has.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	r := &run{cfg: cfg, memory: &Memory{}}
	defer func() {
		if closed := r.close(ctx); err == nil {
			err = closed
		}
	}()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	for i := range cfg.Runs {
		if err := r.round(ctx, i+1); err != nil {
			return nil, err
		}
	}
	r.closeBeds()
	if err := r.lives(ctx); err != nil {
		return nil, err
	}
	return r.report(ctx)
}

// run is a Run under way.
type run struct {
	cfg      Config
	postgres *postgres
	pack     *bed // nil where nothing of it is measured
	alerting *bed // likewise
	asking   *bed // likewise
	one      *bed // likewise
	memory   *Memory

	packs, ones series
	alerts      []*alerts
	asked       []*asked
	live        []*live
	liveRate    float64
	levels      [2]int // of the aggregations of the pack, and of the one
	eventBytes  float64
}

func (r *run) say(format string, args ...any) { _, _ = fmt.Fprintf(r.cfg.Out, format+"\n", args...) }

// step says that a step is done: that a stream is full, or something measured.
func (r *run) step() {
	if r.cfg.Step != nil {
		r.cfg.Step(r.cfg.steps())
	}
}

// start starts the servers, and fills the streams.
func (r *run) start(ctx context.Context) (err error) {
	r.say("starting NATS and Postgres in %s", r.cfg.Dir)
	if r.postgres, err = startPostgres(ctx, r.cfg.Dir); err != nil {
		return err
	}
	pack, err := packFiles()
	if err != nil {
		return err
	}
	if r.cfg.measures(MeasureAlerts) {
		if r.alerting, err = r.bed(ctx, "alerts", pack, alertsLoad(r.cfg)); err != nil {
			return err
		}
	}
	if r.cfg.measures(MeasureQuestions) {
		if r.asking, err = r.bed(ctx, "questions", pack, packLoad(r.cfg)); err != nil {
			return err
		}
	}
	if r.cfg.packBed() {
		if r.pack, err = r.bed(ctx, "full_pack", pack, packLoad(r.cfg)); err != nil {
			return err
		}
		r.levels[0] = r.pack.levels()
	}
	if r.cfg.measures(MeasureOne) {
		if r.one, err = r.bed(ctx, "one_aggregation", oneFiles(), peersLoad(r.cfg)); err != nil {
			return err
		}
		r.levels[1] = r.one.levels()
	}
	return nil
}

// bed makes one, with the history folded and the stream full.
func (r *run) bed(ctx context.Context, name string, files map[string]string, l load) (*bed, error) {
	b, err := newBed(ctx, r.cfg, r.postgres, name, files, l)
	if err != nil {
		return nil, err
	}
	if err := r.fill(ctx, b); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (r *run) fill(ctx context.Context, b *bed) error {
	all := r.cfg.History + r.cfg.Events
	b.start = time.Now().Add(-time.Duration(all) * time.Second / time.Duration(b.generate.load.perSecond)).Truncate(time.Second)
	if r.cfg.History > 0 {
		if err := b.history(ctx, r.cfg.History, r.say); err != nil {
			return fmt.Errorf("fold the history: %w", err)
		}
	}
	began := time.Now()
	if err := b.fill(ctx, r.cfg.Events); err != nil {
		return fmt.Errorf("fill the stream: %w", err)
	}
	state, err := b.conn.State(ctx)
	if err != nil {
		return err
	}
	r.eventBytes = rounded(b.generate.bytes / float64(b.generate.events))
	r.say("%s: published %s events in %s messages, %.0f MB, in %.1f s", b.name, thousands(float64(r.cfg.Events)), thousands(float64(state.Messages)),
		float64(state.Bytes)/1e6, time.Since(began).Seconds())
	r.step()
	return nil
}

func (b *bed) levels() (n int) {
	for _, def := range b.catalog.Aggregations {
		n += len(def.Granularities)
	}
	return n
}

// round is one run: everything in turn.
func (r *run) round(ctx context.Context, number int) error {
	if r.pack != nil {
		if err := r.measure(ctx, number, r.pack, &r.packs, r.cfg.measures(MeasureFullPack)); err != nil {
			return err
		}
	}
	if r.alerting != nil {
		a, err := r.alerting.alertsCost(ctx, number, r.cfg.Events)
		if err != nil {
			return fmt.Errorf("alerts: %w", err)
		}
		r.alerts = append(r.alerts, a)
		r.say("run %d, alerts: with rules and an evaluator %s events/s, without %s, %s", number, thousands(a.rate[0]), thousands(a.rate[1]), exactly(len(a.problems) == 0))
		r.step()
	}
	if r.asking != nil {
		a, err := r.asking.questionsCost(ctx, number)
		if err != nil {
			return fmt.Errorf("questions: %w", err)
		}
		r.asked = append(r.asked, a)
		r.say("run %d, questions: with them %s events/s, without %s; %d answers, %d errors, p99 %.0f ms, %s", number, thousands(a.rate[0]), thousands(a.rate[1]),
			len(a.latencies), a.errors, millis(percentile(a.latencies, 99)), exactly(len(a.problems) == 0))
		r.step()
	}
	if r.one != nil {
		return r.measure(ctx, number, r.one, &r.ones, true)
	}
	return nil
}

// measure measures on one bed: the bare consumer, and then the workers.
func (r *run) measure(ctx context.Context, number int, b *bed, s *series, workers bool) error {
	if r.cfg.measures(MeasureBare) {
		m, err := b.bare(ctx, r.cfg.Events, r.memory)
		if err != nil {
			return fmt.Errorf("%s, bare consumer: %w", b.name, err)
		}
		s.bare = append(s.bare, m)
		r.say("run %d, %s: bare consumer %s events/s", number, b.name, thousands(m.rate))
		r.step()
	}
	if !workers {
		return nil
	}
	f, err := b.fold(ctx, r.cfg.Events, r.memory)
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	s.measured = append(s.measured, f)
	r.say("run %d, %s: %s events/s, %s", number, b.name, thousands(f.rate), exactly(len(f.problems) == 0))
	r.step()
	return nil
}

// lives measures live, on a stream of its own.
func (r *run) lives(ctx context.Context) error {
	if !r.cfg.measures(MeasureLive) {
		return nil
	}
	r.liveRate = r.cfg.LiveRate
	if r.liveRate == 0 {
		r.liveRate = median(each(r.packs.measured, func(f *folded) float64 { return f.rate })) / 2
	}
	files, err := packFiles()
	if err != nil {
		return err
	}
	if r.pack, err = newBed(ctx, r.cfg, r.postgres, "live", files, packLoad(r.cfg)); err != nil {
		return err
	}
	r.levels[0] = r.pack.levels()
	for i := range r.cfg.Runs {
		l, err := r.pack.live(ctx, r.liveRate, r.memory)
		if err != nil {
			return fmt.Errorf("live: %w", err)
		}
		r.live = append(r.live, l)
		r.say("run %d, live: %s events/s, p50 %.0f ms, p99 %.0f ms, %s", i+1, thousands(l.rate),
			millis(percentile(l.latencies, 50)), millis(percentile(l.latencies, 99)), exactly(len(l.problems) == 0))
		r.step()
	}
	return nil
}

func (r *run) report(ctx context.Context) (*Report, error) {
	c := r.cfg
	report := &Report{
		Batch: c.Batch, Workers: c.Workers, Runs: c.Runs,
		Bare: r.packs.bareResult(), FullPack: r.packs.result(r.levels[0]), Alerts: alertsResult(r.alerts), Questions: questionsResult(r.asked, c.Questions), One: r.ones.result(r.levels[1]), Live: liveResult(r.live, r.liveRate, r.levels[0]),
		Events: c.Events, EventBytes: r.eventBytes, History: c.History, Cardinality: c.Cardinality, Skew: c.Skew,
		Machine: Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	if report.Bare == nil {
		report.Bare = r.ones.bareResult()
	}
	var others []float64
	for _, f := range append(slices.Clone(r.packs.measured), r.ones.measured...) {
		others = append(others, f.others)
	}
	report.Machine.Others = median(others)
	var memory int64
	report.Machine.CPU, memory = machine()
	report.Machine.MemoryMB = memory >> 20
	if measurable() {
		report.PeakRSS = r.memory
	}
	report.Settings.NATSSyncAlways = c.SyncAlways
	err := r.postgres.sql.QueryRowContext(ctx, `SELECT current_setting('server_version')`).Scan(&report.Settings.Postgres)
	return report, err
}

func (r *run) closeBeds() {
	for _, b := range []*bed{r.pack, r.alerting, r.asking, r.one} {
		if b != nil {
			b.close()
		}
	}
	r.pack, r.alerting, r.asking, r.one = nil, nil, nil, nil
}

// close ends the servers.
func (r *run) close(ctx context.Context) error {
	r.closeBeds()
	if r.postgres == nil {
		return nil
	}
	return r.postgres.close(ctx)
}
