package dashboard

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

const (
	// mostBuckets is how many buckets a chart has at most, unless a granularity
	// is given, and tooMany how many then.
	mostBuckets = 400
	tooMany     = 5000
	lastDefault = "24h"
)

// scope is what a page is about: the time, and of whom. It is read from the
// address, and every link of a page carries it over.
type scope struct {
	// From and Until are the ends of the range, [From, Until), at borders of Per.
	From, Until time.Time
	Per         aggregation.Granularity
	// Last is the range that was asked for, such as 24h, where it ends now.
	Last string
	// Now is when the page was asked for.
	Now time.Time

	path   string
	values url.Values
	// contexts are those of the APIs that the page is about (see dashboard.contexts).
	contexts func() ([]string, error)
	usual    string                                    // what Last is where the address has no range
	kept     map[aggregation.Granularity]time.Duration // for how long rows are
}

// carried are the parameters that go from page to page.
func carried() []string {
	return []string{"last", "from", "to", "per", "tenant", "api", "version", "app"}
}

// scope reads the request's address. With an error the scope is that of an
// address without parameters.
func (d *dashboard) scope(r *http.Request, p *page) (scope, error) {
	s := scope{path: r.URL.Path, values: url.Values{}, Now: d.Now().UTC(), kept: d.kept(), usual: cmp.Or(p.last, lastDefault)}
	err := s.read(r.URL.RawQuery)
	if err != nil {
		s = scope{path: r.URL.Path, values: url.Values{}, Now: s.Now, kept: s.kept, usual: s.usual}
		_ = s.read("") // has no error without parameters
	}
	return s, err
}

func (s *scope) read(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("the parameters are not readable: %w", err)
	}
	for name, given := range values {
		if text := strings.TrimSpace(given[0]); text != "" && strings.ToValidUTF8(text, "") == text && !strings.ContainsRune(text, 0) {
			s.values.Set(name, text)
		}
	}
	from, until, err := s.interval()
	if err != nil {
		return err
	}
	if s.Per, err = s.granularity(from, until); err != nil {
		return err
	}
	s.From = time.UnixMicro(s.Per.Truncate(from.UnixMicro(), time.UTC)).UTC()
	s.Until = time.UnixMicro(s.Per.Ceil(until.UnixMicro(), time.UTC)).UTC()
	return nil
}

// interval reads from and to, or last.
func (s *scope) interval() (from, until time.Time, err error) {
	first, second := s.value("from"), s.value("to")
	if first == "" && second == "" {
		s.Last = cmp.Or(s.value("last"), s.usual)
		long, err := duration(s.Last)
		if err != nil {
			return from, until, err
		}
		return s.Now.Add(-long), s.Now, nil
	}
	s.Last = ""
	s.values.Del("last")
	if first == "" || second == "" {
		return from, until, fmt.Errorf("a range needs both ends, from and to; or give last=%s alone", lastDefault)
	}
	if from, err = instant(first); err != nil {
		return from, until, err
	}
	if until, err = instant(second); err != nil {
		return from, until, err
	}
	if !from.Before(until) {
		return from, until, fmt.Errorf("the range begins at %s, which is not before its end %s", first, second)
	}
	return from, until, nil
}

// duration reads 90s, 15m, 24h, 7d, 2w or 1y.
func duration(text string) (time.Duration, error) {
	units := map[string]time.Duration{
		"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 366 * 24 * time.Hour,
	}
	unit := text[len(text)-1:]
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || n < 1 || units[unit] == 0 || n > int(50*366*24*time.Hour/units[unit]) {
		return 0, fmt.Errorf("last: %q is no length of time; write 90s, 15m, 24h, 7d, 4w or 1y", text)
	}
	return time.Duration(n) * units[unit], nil
}

// instant reads a time as links and date fields write it, in UTC.
func instant(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 1970 && t.Year() < 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time between 1971 and 2199; write 2026-11-23T21:00 (UTC)", text)
}

// granularity is the one that is given, or the finest with at most mostBuckets
// buckets of which all are kept still.
func (s *scope) granularity(from, until time.Time) (aggregation.Granularity, error) {
	if text := s.value("per"); text != "" {
		g, err := aggregation.ParseGranularity(text)
		if err == nil && !slices.Contains(aggregation.Granularities(), g) {
			err = fmt.Errorf("%s are not kept", text)
		}
		if err != nil {
			return 0, fmt.Errorf("per: %q is no granularity here; there are seconds, minutes, hours, days, months and years", text)
		}
		if n := until.Sub(from) / typical(g); n > tooMany {
			return 0, fmt.Errorf("per: this range has %d %s, more than a page can show; leave out per, or take a coarser one", n, g)
		}
		return g, nil
	}
	for _, g := range aggregation.Granularities() {
		if until.Sub(from)/typical(g) <= mostBuckets && s.Now.Sub(from) <= s.kept[g] {
			return g, nil
		}
	}
	return aggregation.Years, nil
}

// typical is the length of a bucket, about.
func typical(g aggregation.Granularity) time.Duration {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	return time.Duration(g.Next(start, time.UTC)-start) * time.Microsecond
}

// value is a parameter; "" where it is not given.
func (s *scope) value(name string) string { return s.values.Get(name) }

// at is the address of a page with the same scope, changed by pairs of a name
// and a value; an empty value takes the parameter away.
func (s *scope) at(path string, changes ...string) string {
	values := url.Values{}
	for name := range s.values {
		if path == s.path || slices.Contains(carried(), name) {
			values.Set(name, s.values.Get(name))
		}
	}
	for i := 0; i+1 < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			values.Del(changes[i])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// here is the address of the same page with changes.
func (s *scope) here(changes ...string) string { return s.at(s.path, changes...) }

// within is the range as a question has it.
func (s *scope) within() string {
	return s.From.Format(time.RFC3339Nano) + "," + s.Until.Format(time.RFC3339Nano)
}
