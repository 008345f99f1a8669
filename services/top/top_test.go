package top

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"weir/pkg/query"
)

// broken panics when it is asked.
type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) { panic("the transport is broken") }

func TestWatch_GivesTheTerminalBackAfterAPanic(t *testing.T) {
	t.Parallel()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tty.Close(), ptmx.Close() })
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	client := &query.Client{URL: "http://weir.example", HTTP: &http.Client{Transport: broken{}}}
	reason := func() (reason any) {
		defer func() { reason = recover() }()
		_ = watch(t.Context(), tty, tty, newProbe(client, time.Minute), view{url: client.URL}, time.Second)
		return nil
	}()
	if fmt.Sprint(reason) != "the transport is broken" {
		t.Errorf("got %v, want the panic", reason)
	}
	if after, err := term.GetState(int(tty.Fd())); err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("the terminal is left otherwise than it was (%v)", err)
	}
	const end = "<end>" // what is written comes in any number of pieces
	if _, err := tty.WriteString(end); err != nil {
		t.Fatal(err)
	}
	text, piece := "", make([]byte, 64<<10)
	for !strings.HasSuffix(text, end) {
		n, err := ptmx.Read(piece)
		if err != nil {
			t.Fatal(err)
		}
		text += string(piece[:n])
	}
	if !strings.HasPrefix(text, enterScreen) || !strings.HasSuffix(text, leaveScreen+end) {
		t.Errorf("got %q", text)
	}
}

// some is a sample of three APIs in ten seconds.
func some() *sample {
	end := time.Date(2026, 11, 23, 20, 59, 3, 0, time.UTC)
	fast, slow := 12.0, 950.0
	return &sample{
		at: end, start: end.Add(-10 * time.Second), end: end, through: end,
		apis: []api{
			{name: "pizza", version: "v2", seconds: 10, calls: 40, e5xx: 3, faults: 1, percentiles: [3]*float64{&fast, &fast, &fast}},
			{name: "calc", version: "v1", seconds: 10, calls: 12345, e4xx: 10, throttled: 25, percentiles: [3]*float64{&slow, &slow, &slow}},
			{name: "ピザ", version: "v1", seconds: 10},
		},
		shards: []shard{{Shard: query.Shard{ShardID: "w1", State: "live", Events: 1234567, LastFlush: &end, Levels: 60}, rate: 1238.5}},
	}
}

func TestView_SortsAndFiltersAsKeysSay(t *testing.T) {
	t.Parallel()
	v := view{sample: some(), sort: 2}
	names := func() string {
		var all []string
		for _, a := range v.apis() {
			all = append(all, a.name)
		}
		return strings.Join(all, " ")
	}
	for _, step := range []struct{ keys, want string }{
		{"", "calc pizza ピザ"},                 // by calls
		{"\x1b[C", "pizza calc ピザ"},           // by errors, what is not known last
		{"ss", "calc pizza ピザ"},               // by p50
		{"r", "ピザ pizza calc"},                // turned round
		{"rSSSSS", "calc pizza ピザ"},           // by name
		{"/V1\r", "calc ピザ"},                  // filtered by version
		{"/piz", "pizza"},                     // while it is typed
		{"\x7f\x7f\x7f\x7f", "calc pizza ピザ"}, // and taken back
		{"ザ\r", "ピザ"},
		{"\x1b", "calc pizza ピザ"}, // dropped
	} {
		if todo := v.typed([]byte(step.keys)); todo != goOn || names() != step.want {
			t.Errorf("after %q: got %s, want %s", step.keys, names(), step.want)
		}
	}
	for keys, want := range map[string]todo{"q": quit, "\x03": quit, "\x1a": suspend, "/q": goOn, "\x1b[99;99": goOn, "\xff": goOn} {
		other := view{sample: some()}
		if got := other.typed([]byte(keys)); got != want {
			t.Errorf("%q: got %d, want %d", keys, got, want)
		}
	}
}

func TestView_FitsAnyScreen(t *testing.T) {
	t.Parallel()
	v := view{sample: some(), sort: 2, url: "http://127.0.0.1:8080"}
	v.sample.apis[0].name = strings.Repeat("long ", 100)
	v.sample.apis[1].name = "\x1b[2J"
	for _, size := range [][2]int{{80, 24}, {160, 50}, {40, 10}, {20, 5}, {1, 1}} {
		frame := v.frame(size[0], size[1], v.sample.at)
		if len(frame) != size[1] {
			t.Errorf("%v: %d lines", size, len(frame))
		}
		if strings.Contains(strings.Join(frame, ""), "\x1b[2J") {
			t.Errorf("%v: the name of an API steers the terminal", size)
		}
	}
	text := strings.Join(v.frame(80, 24, v.sample.at.Add(300*time.Millisecond)), "\n")
	for _, want := range []string{"complete through 20:59:03, lag 0.3s", "1238.5 calls/s", "0.0% errors", "1,234,567", "0 of 60"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestView_KeepsWhatItHasSeenWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	v := view{sample: some()}
	v.take(look{err: errors.New("ask the API: postgres://weir:hidden@db: connection refused")})
	frame := strings.Join(v.frame(120, 24, v.sample.at), "\n")
	if !strings.Contains(frame, "pizza") || !strings.Contains(frame, "! ask the API") || strings.Contains(frame, "hidden") {
		t.Errorf("got\n%s", frame)
	}
	v.take(look{sample: some()})
	if v.problem != "" {
		t.Errorf("the problem stays: %s", v.problem)
	}
}

func TestFindLatency_TakesTheAggregationWithFewestKeys(t *testing.T) {
	t.Parallel()
	byAPI := []query.Key{{Name: "apiName"}, {Name: "apiVersion"}}
	measures := []query.Measure{{Name: "median", Op: "p50", Arg: "responseTime"}, {Name: "tail", Op: "p99", Arg: "responseTime"}, {Name: "b", Op: "p95", Arg: "backendTime"}}
	got := findLatency([]query.Aggregation{
		{Name: "ByResource", Keys: append([]query.Key{{Name: "apiResourceTemplate"}}, byAPI...), Measures: measures},
		{Name: "ByAPI", Keys: byAPI, Measures: measures, Granularities: []string{"minutes"}},
		{Name: "Total", Measures: measures},
	})
	want := &latency{aggregation: "ByAPI", measures: [3]string{"median", "", "tail"}, kept: map[string]bool{"minutes": true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRates_AreOfTheLastSecondsAndNeverNegative(t *testing.T) {
	t.Parallel()
	p := newProbe(nil, time.Minute)
	at := time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	rateOf := func(second int, events int64) float64 {
		return p.rates(at.Add(time.Duration(second)*time.Second), []query.Shard{{ShardID: "w1", Events: events}, {ShardID: "gone", MovedTo: "w1"}})[0].rate
	}
	for _, step := range []struct {
		second int
		events int64
		want   float64
	}{{0, 1000, 0}, {5, 1500, 100}, {10, 4000, 300}, {20, 14000, 1000}, {25, 0, 0}} {
		if got := rateOf(step.second, step.events); got != step.want {
			t.Errorf("at %d s: got %v, want %v", step.second, got, step.want)
		}
	}
}

func TestTop_RefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--every", "1ms"}, {"--window", "48h"}, {"--sort", "beauty"}} {
		cmd := Command()
		cmd.SetArgs(append(args, "--http", "http://127.0.0.1:1"))
		cmd.SetIn(os.Stdin)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("%q: got %v, want exit code 2", args, err)
		}
	}
}
