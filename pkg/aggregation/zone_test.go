package aggregation

import (
	"archive/zip"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// zones are all of the database that comes with Go.
var zones = sync.OnceValues(func() (all []*time.Location, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = archive.Close() }() // only read
	for _, file := range archive.File {
		if strings.HasSuffix(file.Name, "/") {
			continue
		}
		content, err := file.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return nil, err
		}
		zone, err := time.LoadLocationFromTZData(file.Name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, zone)
	}
	return all, nil
})

// zonesToDraw prefers those whose changes are odd.
func zonesToDraw(t *testing.T) *rapid.Generator[*time.Location] {
	t.Helper()
	all, err := zones()
	if err != nil || len(all) < 500 {
		t.Fatalf("read the time zones of Go: %d, error %v", len(all), err)
	}
	var odd []*time.Location
	for _, name := range []string{
		"Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Africa/Monrovia",
		"Pacific/Kwajalein", "America/Santiago", "America/Havana", "Europe/Amsterdam", "Africa/Casablanca", "Europe/Berlin",
	} {
		odd = append(odd, location(t, name))
	}
	return rapid.OneOf(rapid.SampledFrom(all), rapid.SampledFrom(odd))
}

// drawInstant draws instants from 1900 to 2100, many of them near changes of
// the offset.
func drawInstant(r *rapid.T, zone *time.Location) int64 {
	first, last := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	at := rapid.Int64Range(first, last).Draw(r, "instant")
	if rapid.IntRange(0, 3).Draw(r, "near a change") > 0 {
		if change, ok := nextChange(at, last, zone); ok {
			at = change + rapid.OneOf(
				rapid.Int64Range(-2, 1), rapid.Int64Range(-7200*micros, 7200*micros), rapid.Int64Range(-3*dayWidth, 3*dayWidth),
			).Draw(r, "after")
		}
	}
	return at
}

// cuts are granularities of all kinds.
func cuts() []Granularity {
	all := []Granularity{
		Seconds, multiple(7, second), multiple(15, second), Minutes, multiple(7, minute), multiple(10, minute),
		multiple(14, minute), multiple(15, minute), multiple(90, minute), Hours, multiple(2, hour), multiple(3, hour), multiple(5, hour),
		multiple(6, hour), multiple(10, hour), multiple(12, hour), multiple(36, hour), multiple(999, hour), Days, multiple(2, day), multiple(10, day),
		Weeks, multiple(2, week), Months, multiple(2, month), Quarters, multiple(6, month), Years, multiple(10, year),
	}
	return all
}

func show(t int64, zone *time.Location) string {
	return time.UnixMicro(t).In(zone).Format(time.RFC3339Nano)
}

func TestTruncate_IsTheSameThroughEveryLevelThatNests(t *testing.T) {
	t.Parallel()
	draw := zonesToDraw(t)
	rapid.Check(t, func(r *rapid.T) {
		zone := draw.Draw(r, "zone")
		at := drawInstant(r, zone)
		for _, fine := range cuts() {
			start := fine.Truncate(at, zone)
			for _, coarse := range cuts() {
				if !fine.Nests(coarse) {
					continue
				}
				if got, want := coarse.Truncate(start, zone), coarse.Truncate(at, zone); got != want {
					r.Fatalf("%s of %s in %s: got %s through %s, want %s", coarse, show(at, zone), zone, show(got, zone), fine, show(want, zone))
				}
			}
		}
	})
}

func TestTruncate_GivesTheFirstInstantOfTheBucket(t *testing.T) {
	t.Parallel()
	draw := zonesToDraw(t)
	rapid.Check(t, func(r *rapid.T) {
		zone := draw.Draw(r, "zone")
		at := drawInstant(r, zone)
		for _, g := range cuts() {
			start := g.Truncate(at, zone)
			next := g.Next(start, zone)
			switch {
			case start > at || next <= at:
				r.Fatalf("%s of %s in %s is from %s to %s", g, show(at, zone), zone, show(start, zone), show(next, zone))
			case g.Truncate(start, zone) != start || g.Truncate(next-1, zone) != start || g.Truncate(next, zone) != next:
				r.Fatalf("%s in %s from %s to %s are cut otherwise at an end", g, zone, show(start, zone), show(next, zone))
			}
		}
	})
}

func TestTruncate_KeepsHoursOfDifferentOffsetsApart(t *testing.T) {
	t.Parallel()
	draw := zonesToDraw(t)
	rapid.Check(t, func(r *rapid.T) {
		zone := draw.Draw(r, "zone")
		at := drawInstant(r, zone)
		for _, g := range []Granularity{Seconds, Minutes, multiple(15, minute), Hours} {
			start := g.Truncate(at, zone)
			if want := offset(at, zone); offset(start, zone) != want || offset(g.Next(start, zone)-1, zone) != want {
				r.Fatalf("%s in %s from %s reach over a change", g, zone, show(start, zone))
			}
		}
	})
}

// A day starts when clocks show its date or a later one for the first time, and
// then no later date till its end.
func TestTruncate_StartsDaysWhenClocksFirstShowTheirDate(t *testing.T) {
	t.Parallel()
	draw := zonesToDraw(t)
	date := func(t int64, zone *time.Location) string { return time.UnixMicro(t).In(zone).Format(time.DateOnly) }
	rapid.Check(t, func(r *rapid.T) {
		zone := draw.Draw(r, "zone")
		at := drawInstant(r, zone)
		start := Days.Truncate(at, zone)
		for t := start - 1; t > start-2*dayWidth; t -= 300 * micros {
			if date(t, zone) >= date(start, zone) {
				r.Fatalf("the day of %s in %s starts at %s, its date at or before %s", show(at, zone), zone, show(start, zone), show(t, zone))
			}
		}
		if date(at, zone) > date(start, zone) {
			r.Fatalf("the day of %s in %s starts at %s", show(at, zone), zone, show(start, zone))
		}
	})
}
