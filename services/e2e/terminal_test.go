package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/term"

	"weir/pkg/child"
)

// call is an event that the tests of the terminal publish, and count themselves.
type call struct {
	stream                string // request, fault or throttle
	at                    time.Time
	api, version, app, id string
	owner, user           string
	code, ms              int
}

const (
	hostileAPI = "\x1b[2J<script>alert(1)</script>"
	hostileApp = "=cmd|' /C calc'!A1"
)

// terminalCalls are some of the last minutes, and of October 2026.
func terminalCalls(now time.Time) (calls []call) {
	add := func(n int, c call, each func(i int, c *call)) {
		for i := range n {
			next := c
			each(i, &next)
			calls = append(calls, next)
		}
	}
	for at, times := range map[time.Time]int{now.Add(-3 * time.Minute): 1, time.Date(2026, 10, 31, 23, 59, 0, 0, time.UTC): 2} {
		calc := call{stream: "request", at: at, api: "calc", version: "v1", app: "mobile", id: "7", owner: "ann", user: "joe", code: 200}
		add(300*times, calc, func(i int, c *call) {
			c.at, c.ms = at.Add(time.Duration(i%59)*time.Second), 1+i%100
			switch {
			case i%25 == 0:
				c.code = 503
			case i%10 == 3:
				c.code = 404
			}
		})
		calc.stream = "fault"
		add(8*times, calc, func(int, *call) {})
		calc.stream = "throttle"
		add(20*times, calc, func(int, *call) {})
		shop := call{stream: "request", at: at, api: "shop", version: "v2", app: hostileApp, id: "8", owner: "bob", user: "kim", code: 200, ms: 7}
		add(50*times, shop, func(i int, c *call) { c.user = fmt.Sprintf("kim-%d", i%3) })
		shop.api, shop.ms = hostileAPI, 9
		add(5*times, shop, func(int, *call) {})
	}
	// The first moment of the month, and the last one before it, which is no part of it.
	first := call{stream: "request", at: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), api: "edge", version: "v1", app: "mobile", id: "7", owner: "ann", user: "joe", code: 200}
	before := first
	before.at = first.at.Add(-time.Millisecond)
	return append(calls, first, before)
}

// publishCalls stores them in messages of 100.
func publishCalls(t *testing.T, i *instance, calls []call) {
	t.Helper()
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	events := map[string][]map[string]any{}
	for _, c := range calls {
		e := map[string]any{
			"apiName": c.api, "apiVersion": c.version, "applicationName": c.app, "applicationId": c.id, "username": c.user,
			"apiCreatorTenantDomain": "t.example", "userTenantDomain": "t.example", "apiContext": "/" + c.api,
		}
		switch c.stream {
		case "throttle":
			e["throttledOutTimestamp"], e["subscriber"] = c.at.UnixMilli(), c.owner
		case "request":
			e["responseCode"], e["responseTime"] = c.code, c.ms
			fallthrough
		default:
			e["requestTimestamp"], e["applicationOwner"] = c.at.UnixMilli(), c.owner
		}
		events[c.stream] = append(events[c.stream], e)
	}
	for stream, all := range events {
		for part := range slices.Chunk(all, 100) {
			body, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "events."+stream+".gw", body); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// withPercentiles is the pack, with percentiles of the response time by API where it has none.
func withPercentiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pack, err := filepath.Glob("../../streams/*.yaml")
	if err != nil || len(pack) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	for _, path := range pack {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "request.yaml" && !strings.Contains(string(text), "p95(responseTime)") {
			text = []byte(strings.Replace(string(text), "\naggregations:\n", `
aggregations:
  Percentiles:
    description: Percentiles of the response time, ms.
    group_by: [apiName, apiVersion]
    select: {p50: p50(responseTime), p95: p95(responseTime), p99: p99(responseTime)}
    every: seconds...years
`, 1))
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	i := up(t, "--streams", withPercentiles(t))
	now := time.Now()
	calls := terminalCalls(now)
	publishCalls(t, i, calls)
	i.drain(t)
	t.Run("top --once prints a plain table", func(t *testing.T) { topPrintsOnce(t, i, calls, now) })
	t.Run("top draws, resizes, sorts, filters and ends", func(t *testing.T) { topOnATerminal(t, i) })
	t.Run("top gives the terminal back after a signal", func(t *testing.T) { topEndsBySignal(t, i) })
	t.Run("query draws sparklines on a terminal only", func(t *testing.T) { queryDraws(t, i) })
	t.Run("report equals what was published", func(t *testing.T) { reportEquals(t, i, calls, now) })
}

// topPrintsOnce compares with what the test counts.
func topPrintsOnce(t *testing.T, i *instance, calls []call, now time.Time) {
	out := weir(t, "top", "--once", "--window", "20m", "--http", i.http)
	if strings.Contains(out, "\x1b") {
		t.Errorf("escapes in a pipe: %q", out)
	}
	var served, failed, clientErrors, throttled int
	var times []int
	for _, c := range calls {
		if c.api != "calc" || now.Sub(c.at) > 10*time.Minute {
			continue
		}
		switch {
		case c.stream == "throttle":
			throttled++
			continue
		case c.stream == "fault" || c.code >= 500:
			failed++
		case c.code >= 400:
			clientErrors++
		}
		served++
		if c.stream == "request" {
			times = append(times, c.ms)
		}
	}
	slices.Sort(times)
	cells := strings.Fields(lineWith(t, out, "calc"))
	if len(cells) != 10 {
		t.Fatalf("got %q, want ten cells in\n%s", cells, out)
	}
	share := func(n int) string { return fmt.Sprintf("%.1f", 100*float64(n)/float64(served)) }
	if cells[1] != "v1" || cells[3] != share(failed) || cells[4] != share(clientErrors) || cells[9] != strconv.Itoa(served) {
		t.Errorf("got %q, want v1, %s %% errors, %s %% 4xx and %d calls", cells, share(failed), share(clientErrors), served)
	}
	for n, percent := range []float64{50, 95, 99} {
		got, err := strconv.ParseFloat(cells[5+n], 64)
		want := float64(times[int(math.Ceil(percent/100*float64(len(times))))-1])
		if err != nil || math.Abs(got-want) > 0.02*want+1 {
			t.Errorf("p%v: got %s, want %v", percent, cells[5+n], want)
		}
	}
	// The window begins with a minute, so it has 20 to 21; rates have one digit after the point.
	for column, n := range map[int]int{2: served, 8: throttled} {
		got, err := strconv.ParseFloat(cells[column], 64)
		if err != nil || got < float64(n)/(21*60)-0.06 || got > float64(n)/(20*60)+0.06 {
			t.Errorf("column %d: got %s a second, want %d in 20 minutes", column, cells[column], n)
		}
	}
	for _, shard := range []string{"w1", "w2"} {
		if cells := strings.Fields(lineWith(t, out, shard)); cells[1] != "live" {
			t.Errorf("got %q, want a live shard", cells)
		}
	}
}

// lineWith is the line that begins with a word.
func lineWith(t *testing.T, text, word string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == word {
			return line
		}
	}
	t.Fatalf("no line begins with %s in\n%s", word, text)
	return ""
}

// console is a weir on a terminal.
type console struct {
	*process

	tty, ptmx *os.File
	before    *term.State
	screen    output
}

// onTerminal starts weir on a terminal of 80 columns and 24 lines.
func onTerminal(t *testing.T, args ...string) *console {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	c := &console{tty: tty, ptmx: ptmx}
	t.Cleanup(func() { _, _ = tty.Close(), ptmx.Close() })
	c.resize(t, 80, 24)
	if c.before, err = term.GetState(int(tty.Fd())); err != nil {
		t.Fatal(err)
	}
	c.process = &process{t: t, name: "weir " + strings.Join(args, " "), cmd: exec.Command(program, args...), ended: make(chan struct{})}
	c.cmd.Env = child.Environment(t.TempDir(), "TERM=xterm-256color", "GORACE=atexit_sleep_ms=0")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := ptmx.Read(buffer)
			_, _ = c.screen.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(c.cleanUp)
	return c
}

func (c *console) resize(t *testing.T, columns, lines uint16) {
	t.Helper()
	if err := pty.Setsize(c.ptmx, &pty.Winsize{Cols: columns, Rows: lines}); err != nil {
		t.Fatal(err)
	}
}

func (c *console) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := c.ptmx.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// frame is the last screen that was drawn in full, line by line, without what steers the terminal.
func (c *console) frame() []string {
	frames := strings.Split(c.screen.String(), "\x1b[H")
	if len(frames) < 3 {
		return nil
	}
	return strings.Split(escapes.ReplaceAllString(frames[len(frames)-2], ""), "\r\n")
}

// until waits for a screen.
func (c *console) until(t *testing.T, what string, condition func(frame []string) bool) {
	t.Helper()
	until(t, what, func() bool { return condition(c.frame()) || !c.running() })
	if !c.running() {
		t.Fatalf("%s: it has ended:\n%q", what, tail(c.screen.String()))
	}
}

// shown are the first words of the lines of the table of APIs.
func shown(frame []string) (names []string) {
	for _, line := range frame {
		if fields := strings.Fields(line); len(fields) > 6 && slices.Contains([]string{"calc", "shop", "\uFFFD[2J<script>alert(1)"}, strings.TrimSuffix(fields[0], "…")) {
			names = append(names, fields[0])
		}
	}
	return names
}

func topOnATerminal(t *testing.T, i *instance) {
	c := onTerminal(t, "top", "--http", i.http, "--window", "20m", "--every", "200ms")
	c.until(t, "the APIs", func(frame []string) bool { return len(shown(frame)) >= 2 })
	if got := shown(c.frame()); got[0] != "calc" || got[1] != "shop" {
		t.Errorf("got %q, want the API with most calls first", got)
	}
	fits := func(columns, lines int) {
		t.Helper()
		frame := c.frame()
		if len(frame) != lines {
			t.Errorf("got %d lines, want %d", len(frame), lines)
		}
		for _, line := range frame {
			if n := len([]rune(line)); n > columns {
				t.Errorf("a line has %d characters on %d columns: %q", n, columns, line)
			}
		}
	}
	fits(80, 24)
	c.resize(t, 160, 40)
	c.until(t, "a wider screen", func(frame []string) bool { return len(frame) == 40 && strings.Contains(frame[4], " calls") })
	fits(160, 40)
	c.press(t, "\x1b[D\x1b[D") // by calls/s → by api
	c.until(t, "the APIs by name", func(frame []string) bool { return strings.HasPrefix(strings.TrimSpace(frame[4]), "API") })
	c.press(t, "r")
	c.until(t, "the other way round", func(frame []string) bool {
		names := shown(frame)
		return len(names) > 1 && names[0] != "calc" && slices.Index(names, "shop") < slices.Index(names, "calc")
	})
	c.press(t, "/SHO\r")
	c.until(t, "the filtered APIs", func(frame []string) bool { return reflect.DeepEqual(shown(frame), []string{"shop"}) })
	c.press(t, "q")
	c.gaveBack(t)
	if strings.Contains(c.screen.String(), "\x1b[2J") {
		t.Error("the name of an API steers the terminal")
	}
}

// gaveBack waits for the end, and looks whether the terminal is what it was.
func (c *console) gaveBack(t *testing.T) {
	t.Helper()
	if code := c.within(patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	after, err := term.GetState(int(c.tty.Fd()))
	if err != nil || !reflect.DeepEqual(after, c.before) {
		t.Errorf("the terminal is left otherwise than it was: %+v, want %+v (%v)", after, c.before, err)
	}
	until(t, "the first screen and the cursor", func() bool {
		text := c.screen.String()
		return strings.LastIndex(text, "\x1b[?1049l") > strings.LastIndex(text, "\x1b[?1049h") && strings.LastIndex(text, "\x1b[?25h") > strings.LastIndex(text, "\x1b[?25l")
	})
}

func topEndsBySignal(t *testing.T, i *instance) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		c := onTerminal(t, "top", "--http", i.http)
		c.until(t, "a screen", func(frame []string) bool { return len(frame) > 0 })
		c.signal(signal)
		c.gaveBack(t)
	}
	c := onTerminal(t, "top", "--http", i.http)
	c.until(t, "a screen", func(frame []string) bool { return len(frame) > 0 })
	c.press(t, "\x03") // Ctrl-C, which a raw terminal sends as it is
	c.gaveBack(t)
}

func queryDraws(t *testing.T, i *instance) {
	question := []string{
		"query", "ApiVersionPerAppAgg", "--http", i.http, "--within", "2026-10-01,2026-11-01", "--per", "days",
		"--group-by", "bucket,apiName", "--where", `apiName == "calc" or apiName == "edge"`, "--select", "bucket, apiName, totalRequestCount as calls",
	}
	if piped := weir(t, question...); strings.ContainsAny(piped, "▁▂▃▄▅▆▇█") {
		t.Errorf("sparklines in a pipe:\n%s", piped)
	}
	c := onTerminal(t, question...)
	if code := c.within(patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	until(t, "the sparklines", func() bool { return strings.Contains(c.screen.String(), "max 600") })
	if text := c.screen.String(); !strings.Contains(text, "█ max 600") || !strings.Contains(text, "per days, 2026-10-01T00:00:00Z to 2026-10-31T00:00:00Z") {
		t.Errorf("got %s", text)
	}
}

// reportEquals compares the report of October with what the test counts.
func reportEquals(t *testing.T, i *instance, calls []call, now time.Time) {
	type key struct{ api, version, id string }
	want := map[key][5]int64{} // requests, 4xx, 5xx, faults, throttled
	var total [5]int64
	for _, c := range calls {
		if c.at.Format("2006-01") != "2026-10" {
			continue
		}
		k := key{strings.ReplaceAll(c.api, "\x1b", "\uFFFD"), c.version, c.id}
		columns := []int{map[string]int{"request": 0, "fault": 3, "throttle": 4}[c.stream]}
		if c.stream == "request" && c.code >= 400 {
			columns = append(columns, c.code/100-3)
		}
		for _, column := range columns {
			figures := want[k]
			figures[column]++
			want[k] = figures
			total[column]++
		}
	}
	file := filepath.Join(t.TempDir(), "october.csv")
	weir(t, "report", "--month", "2026-10", "--http", i.http, "--output", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(records) != 1+len(want) {
		t.Fatalf("got %d lines, want a title and %d (%v)\n%s", len(records), len(want), err, text)
	}
	for _, r := range records[1:] {
		var got [5]int64
		for n := range got {
			got[n], err = strconv.ParseInt(r[7+n], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
		}
		if k := (key{r[2], r[3], r[4]}); got != want[k] {
			t.Errorf("%q: got %v, want %v", k, got, want[k])
		}
		if app := r[5]; r[4] == "8" && app != "'"+hostileApp {
			t.Errorf("an application that a spreadsheet would run: %q", app)
		}
	}
	page := weir(t, "report", "--month", "2026-10", "--http", i.http, "--format", "html")
	for _, n := range total {
		if !strings.Contains(page, fmt.Sprintf("<dd>%s</dd>", commas(n))) {
			t.Errorf("the page has no total of %d", n)
		}
	}
	if strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;alert(1)") || strings.Contains(page, "\x1b") {
		t.Error("the name of an API is not escaped")
	}
	if strings.Contains(page, "not over") || strings.Contains(page, "http://") || strings.Contains(page, "https://") {
		t.Error("a month that is over is said not to be, or the page asks others")
	}
	this := weir(t, "report", "--month", now.UTC().Format("2006-01"), "--postgres", i.postgres)
	if !strings.Contains(this, "is not over yet") || !strings.Contains(this, "calc") {
		t.Errorf("this month:\n%s", this)
	}
	if got := weir(t, "report", "--month", "2020-01", "--nats", i.nats); !strings.Contains(got, "No call of January 2020 is counted.") {
		t.Errorf("a month without calls:\n%s", got)
	}
	fails(t, 2, []string{"has not begun yet"}, "report", "--month", now.AddDate(0, 2, 0).Format("2006-01"), "--http", i.http)
	fails(t, 2, []string{"should be a month, as 2026-11"}, "report", "--month", "october", "--http", i.http)
	fails(t, 2, []string{"should be text, csv or html"}, "report", "--month", "2026-10", "--format", "pdf", "--http", i.http)
}

func commas(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
