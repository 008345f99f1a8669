package aggregation

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestEvenBetween_HoldsWhereClocksChangeByWholeBuckets(t *testing.T) {
	t.Parallel()
	at := func(year int) int64 { return time.Date(year, 7, 1, 0, 0, 0, 0, time.UTC).UnixMicro() }
	for _, tt := range []struct {
		zone     string
		g        Granularity
		from, to int
		want     bool
	}{
		{"Europe/Berlin", Hours, 1990, 2030, true},
		{"Europe/Berlin", Hours, 2026, 2090, true}, // past the listed changes, over 31 December of leap years
		{"Asia/Kolkata", Hours, 1970, 2030, true},
		{"Europe/Berlin", Minutes, 1970, 2030, true},
		{"Africa/Monrovia", Minutes, 1960, 2030, false}, // 44:30 behind UTC till 1972
		{"Asia/Kolkata", Hours, 1940, 2030, true},       // an hour ahead during a war
		{"Asia/Kolkata", Hours, 1900, 2030, false},      // by local mean time till 1905
		{"Asia/Kathmandu", Hours, 1980, 2030, false},    // from 5:30 to 5:45 in 1986
		{"Asia/Kathmandu", Hours, 1987, 2030, true},
		{"Asia/Kathmandu", multiple(15, minute), 1980, 2030, true},
		{"Australia/Lord_Howe", Hours, 2026, 2027, false}, // half an hour twice a year
		{"Australia/Lord_Howe", multiple(30, minute), 2026, 2027, true},
		{"Europe/Berlin", multiple(6, hour), 2026, 2027, false},
		{"Europe/Berlin", Days, 2026, 2027, false},
	} {
		if _, _, ok := tt.g.EvenBetween(at(tt.from), at(tt.to), location(t, tt.zone)); ok != tt.want {
			t.Errorf("%s from %d to %d in %s: got %t, want %t", tt.g, tt.from, tt.to, tt.zone, ok, tt.want)
		}
	}
}

func TestEvenBetween_CutsAsTruncateDoes(t *testing.T) {
	t.Parallel()
	names := []string{"Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Kolkata", "America/Caracas", "Pacific/Apia", "Africa/Monrovia"}
	rapid.Check(t, func(r *rapid.T) {
		zone := location(t, rapid.SampledFrom(names).Draw(r, "zone"))
		g := rapid.SampledFrom([]Granularity{Hours, multiple(15, minute), multiple(30, minute), multiple(20, minute), Minutes}).Draw(r, "g")
		first := rapid.Int64Range(-70*365*dayWidth, 70*365*dayWidth).Draw(r, "first")
		last := first + rapid.Int64Range(0, 3*365*dayWidth).Draw(r, "length")
		width, origin, ok := g.EvenBetween(first, last, zone)
		if !ok {
			return
		}
		for range 50 {
			at := rapid.Int64Range(first, last).Draw(r, "at")
			if got, want := floor(at-origin, width)+origin, g.Truncate(at, zone); got != want {
				r.Fatalf("%s in %s at %s: got %s, want %s", g, zone, time.UnixMicro(at), time.UnixMicro(got), time.UnixMicro(want))
			}
		}
	})
}
