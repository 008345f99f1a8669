package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
)

func pizza(value float64) alert.Threshold {
	return alert.Threshold{Rule: "slow", Case: "c", Dimensions: alert.Dimensions{API: "piz'za", Version: "1", Resource: "/{id}\\", Method: "GET", Application: "7", Tenant: "é.com"}, Value: value}
}

func slowest(value float64) alert.Threshold { return alert.Threshold{Rule: "slow", Value: value} }

func learned(t alert.Threshold) alert.Threshold {
	t.Learned = true
	return t
}

// thresholdsOf are the thresholds of the database, without who set them, and their version.
func thresholdsOf(t *testing.T, db *DB) (all []alert.Threshold, version string) {
	t.Helper()
	stored, version, err := db.Thresholds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stored {
		if since := time.Since(s.At); since < -time.Minute || since > time.Hour {
			t.Errorf("%+v was set at %s", s.Threshold, s.At)
		}
		all = append(all, s.Threshold)
	}
	if now, err := db.ThresholdsVersion(t.Context()); err != nil || now != version {
		t.Errorf("the version is %s, %v; of the list it is %s", now, err, version)
	}
	return all, version
}

func wantKept(t *testing.T, db *DB, what string, want ...alert.Threshold) (version string) {
	t.Helper()
	got, version := thresholdsOf(t, db)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
	return version
}

func TestThresholds_AreWhatWasSetLast(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	versions := map[string]string{wantKept(t, db, "none"): "none"}
	see := func(what string, want ...alert.Threshold) {
		t.Helper()
		version := wantKept(t, db, what, want...)
		if before, ok := versions[version]; ok {
			t.Errorf("%s: the version is that of %s", what, before)
		}
		versions[version] = what
	}
	set := func(th alert.Threshold) {
		t.Helper()
		if stored, err := db.SetThreshold(t.Context(), th, "me\x00"); err != nil || stored.By != "me\uFFFD" || stored.Learned || stored.At.IsZero() {
			t.Fatalf("set %+v: %+v, %v", th, stored, err)
		}
	}
	set(pizza(1.0 / 3))
	see("one", pizza(1.0/3))
	set(slowest(-2e300))
	see("two", slowest(-2e300), pizza(1.0/3))
	set(learned(pizza(5))) // set by a person, whatever it says
	see("one changed", slowest(-2e300), pizza(5))
	other := pizza(1)
	other.Tenant = ""
	if err := db.UnsetThreshold(t.Context(), other); !errors.Is(err, ErrNoThreshold) {
		t.Errorf("unset one with fewer dimensions: %v", err)
	}
	if err := db.UnsetThreshold(t.Context(), slowest(0)); err != nil {
		t.Error(err)
	}
	see("one unset", pizza(5))
	mustExec(t, db, `TRUNCATE weir.threshold`) // by whomever
	see("truncated")
	if err := db.UnsetThreshold(t.Context(), slowest(0)); !errors.Is(err, ErrNoThreshold) {
		t.Errorf("unset again: %v", err)
	}
	for _, value := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := db.SetThreshold(t.Context(), slowest(value), ""); err == nil {
			t.Errorf("%v is kept", value)
		}
	}
}

func TestReplaceLearned_ReplacesThoseOfItsRuleOnly(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	replace := func(rule string, entries ...alert.Threshold) {
		t.Helper()
		if err := db.ReplaceLearned(t.Context(), rule, entries, Learning{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.SetThreshold(t.Context(), pizza(1), "me"); err != nil {
		t.Fatal(err)
	}
	a, b := alert.Threshold{Rule: "other", Value: 3}, alert.Threshold{Rule: "slow", Dimensions: alert.Dimensions{API: "a"}, Value: 4}
	replace("other", a)
	replace("slow", pizza(2), b)
	before := wantKept(t, db, "two rules", learned(a), learned(b), pizza(1), learned(pizza(2)))
	huge, broken := b, b
	huge.API, broken.API = strings.Repeat("x", 3000), "\xff\x00"
	replace("slow", alert.Threshold{Rule: "whatever", Value: 9}, huge, broken, alert.Threshold{Value: math.NaN(), Case: "x"}, slowest(10))
	if after := wantKept(t, db, "replaced", learned(a), learned(slowest(10)), pizza(1)); after == before {
		t.Error("the version is the former one")
	}
	replace("slow")
	wantKept(t, db, "nothing learned", learned(a), pizza(1))
	if err := db.UnsetThreshold(t.Context(), a); !errors.Is(err, ErrNoThreshold) {
		t.Errorf("unset what is learned: %v", err)
	}
	many := make([]alert.Threshold, 20_000)
	for i := range many {
		many[i] = alert.Threshold{Dimensions: alert.Dimensions{API: fmt.Sprint(i), Resource: strings.Repeat("r", 100)}, Value: float64(i)}
	}
	replace("slow", many...)
	if got, _ := thresholdsOf(t, db); len(got) != 20_002 {
		t.Errorf("%d are kept", len(got))
	}
	long := pizza(1) // as long as any may be
	long.Dimensions = alert.Dimensions{API: random(1000), Resource: random(1000)}
	if _, err := db.SetThreshold(t.Context(), long, ""); err != nil || long.Storable() != nil {
		t.Error(err)
	}
}

// What was learned last is known until something else is, or nothing is learned any more.
func TestLearned_IsWhatWasReplacedLast(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	want := map[string]Learning{}
	replace := func(rule string, of Learning) {
		t.Helper()
		if err := db.ReplaceLearned(t.Context(), rule, []alert.Threshold{slowest(1)}, of); err != nil {
			t.Fatal(err)
		}
		if want[rule] = of; of.What == "" {
			delete(want, rule)
		}
		if got, err := db.Learned(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	replace("none", Learning{})
	replace("a", Learning{"p95", day})
	replace("b", Learning{"p99", day})
	replace("a", Learning{"p95", day.AddDate(0, 0, 1)})
	replace("b", Learning{"p50", day})
	replace("a", Learning{})
}

// Two that learn the same rule at once do so in turn.
func TestReplaceLearned_IsDoneInTurn(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	errs := make(chan error)
	for n := range 4 {
		go func() {
			var err error
			for range 10 {
				err = errors.Join(err, db.ReplaceLearned(t.Context(), "slow", []alert.Threshold{pizza(float64(n)), slowest(float64(n))}, Learning{What: fmt.Sprint(n)}))
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	last, err := db.Learned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := thresholdsOf(t, db)
	for _, of := range got {
		if fmt.Sprint(of.Value) != last["slow"].What {
			t.Errorf("%+v is not of what was learned last, %+v", of, last)
		}
	}
	if len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

// random is a text that cannot be compressed.
func random(n int) string {
	var b strings.Builder
	for seed := uint64(7); b.Len() < n; {
		seed = seed*6364136223846793005 + 1442695040888963407
		b.WriteByte('!' + byte(seed>>58)) // 64 printable characters
	}
	return b.String()
}

// Two who write at once write one after the other, and the version is that of the
// last.
func TestThresholds_AreWrittenInTurn(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	_, before := thresholdsOf(t, db)
	first := begin(t.Context(), db, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(t.Context(), `DELETE FROM weir.threshold`)
		return err
	})
	if err := <-first.did; err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := db.SetThreshold(t.Context(), slowest(1), "second")
		second <- err
	}()
	waitForLock(t, db, 1)
	if got, now := thresholdsOf(t, db); len(got) != 0 || now != before {
		t.Errorf("before the commit: %+v", got)
	}
	first.end <- nil
	if err := errors.Join(<-first.done, <-second); err != nil {
		t.Fatal(err)
	}
	wantKept(t, db, "both", slowest(1))
}

func TestThresholds_ErrorsSayWhatWasTried(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, listErr := db.Thresholds(ctx)
	_, versionErr := db.ThresholdsVersion(ctx)
	_, setErr := db.SetThreshold(ctx, slowest(1), "")
	_, learnedErr := db.Learned(ctx)
	for want, err := range map[string]error{
		"read thresholds":                    listErr,
		"read the version of the thresholds": versionErr,
		"set the threshold of slow":          setErr,
		"unset the threshold of slow":        db.UnsetThreshold(ctx, slowest(1)),
		"replace what is learned for slow":   db.ReplaceLearned(ctx, "slow", nil, Learning{}),
		"read what was learned last":         learnedErr,
	} {
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q and that the context ended", err, want)
		}
	}
}
