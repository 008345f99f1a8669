package browser

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Not parallel: it runs before any other test has published anything.
func TestPipeline_ShowsWhatWasFoldedAndProvesIt(t *testing.T) {
	s := weir(t)
	b := open(t, s, "/pipeline")
	var events int64
	for _, text := range b.texts("#shards tbody td:nth-child(5)") {
		events += parsed(t, text)
	}
	if events != s.want.Records {
		t.Errorf("the shards have %d events, the log has %d", events, s.want.Records)
	}
	sentence := regexp.MustCompile(`^` + regexp.QuoteMeta(grouped(s.want.Records)) + ` events: all accounted for.*, verified \d\d:\d\d:\d\d$`)
	deadline := time.Now().Add(patience)
	for !sentence.MatchString(b.text("#sentence")) { // the auditor makes a pass every ten seconds
		if time.Now().After(deadline) {
			t.Fatalf("the audit says %q, want %s", b.text("#audit"), sentence)
		}
		b.visit("/pipeline")
	}
}

// What is true of every page on every device: nothing is logged, asked elsewhere or inaccessible (open, accessible),
// and nothing scrolls sideways.
func TestPages_AreSoundOnEveryDevice(t *testing.T) {
	t.Parallel()
	s := weir(t)
	dark := phone()
	dark.dark = true
	for name, d := range map[string]device{"wide and light": desk(), "narrow and dark": dark} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openOn(t, s, "/", d)
			for _, path := range []string{
				"/", "/apis?" + logRange, "/apis/one?api=blog&" + logRange, "/applications?" + logRange, "/errors?" + logRange, "/latency?" + logRange,
				"/throttling?" + logRange, "/devices?" + logRange, "/alerts?" + logRange, "/pipeline",
			} {
				b.visit(path)
				if got := b.text("main h1"); got == "" || strings.Contains(got, "not") {
					t.Errorf("%s: the heading is %q", path, got)
				}
				b.accessible(path)
				b.fits(path)
			}
			b.allow("404")
			b.visit("/nowhere")
			b.accessible("a page that is not there")
		})
	}
}

func TestPages_HaveTheOraclesNumbers(t *testing.T) {
	t.Parallel()
	s := weir(t)
	b := open(t, s, "/apis?per=days&"+logRange)
	want := []string{grouped(s.want.Records)}
	if got := b.texts("#sums dd"); len(got) == 0 || got[0] != want[0] {
		t.Errorf("calls: got %q, want %q", got, want)
	}
	days := b.texts("#traffic tbody time")
	if len(days) != len(s.want.PerDay) {
		t.Errorf("got the days %q, want %v", days, s.want.PerDay)
	}
	got := traffic(b)
	for day, n := range s.want.PerDay {
		if got[day+"T00:00:00Z"] != n {
			t.Errorf("%s: got %d, want %d", day, got[day+"T00:00:00Z"], n)
		}
	}
	if len(eval[[]string](b, `[...document.querySelectorAll(".chart")].filter(c => !c.querySelector("canvas")).map(c => c.parentElement.id)`)) > 0 {
		t.Error("a chart is not drawn")
	}

	b.visit("/errors?" + logRange)
	codes := map[string]int64{}
	names, counts := b.texts("#codes tbody th"), b.texts("#codes tbody td:nth-of-type(1)")
	for i, name := range names {
		code, _, _ := strings.Cut(name, " ")
		codes[code] = parsed(t, counts[i])
	}
	for code, n := range s.want.PerStatus {
		if code >= "400" && codes[code] != n {
			t.Errorf("status %s: got %d, want %d; the page has %v", code, codes[code], n, codes)
		}
	}
}

// The numbers are in the page itself.
func TestPages_WorkWithoutScripts(t *testing.T) {
	t.Parallel()
	s := weir(t)
	response, err := http.Get(s.HTTPURL + "/apis?" + logRange)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := "<dd>" + grouped(s.want.Records); !strings.Contains(string(page), want) {
		t.Errorf("the page has no %q", want)
	}
	d := desk()
	d.scriptless = true
	b := openOn(t, s, "/apis?"+logRange, d)
	b.run(chromedp.WaitVisible(chromedp.CSS("#sums dd")))
}

// Filters are in the address, carry over to other pages, and narrow the numbers.
func TestFilters_ChangeTheAddressAndTheNumbers(t *testing.T) {
	t.Parallel()
	s := weir(t)
	const calls = 546 // of /style2.css, by the oracle; that is all of its API
	b := open(t, s, "/apis?"+logRange)
	b.run(
		chromedp.Click(chromedp.CSS(".more summary")),
		chromedp.SendKeys(chromedp.CSS(`#scope input[name="api"]`), "style2.css"),
	)
	b.click("#scope button")
	b.until("the filter to be in the address", `new URLSearchParams(location.search).get("api") === "style2.css" && document.readyState === "complete"`)
	if got := b.texts("#sums dd"); len(got) == 0 || got[0] != grouped(calls) {
		t.Errorf("calls of one API: got %q, want %d", got, calls)
	}
	b.click(`nav a[href^="/errors"]`)
	b.until("the filter to carry over", `location.pathname === "/errors" && new URLSearchParams(location.search).get("api") === "style2.css" && document.readyState === "complete"`)
}

// Dragging over a chart leads to the same page over what was dragged.
func TestZoom_ChangesTheAddressAndTheNumbers(t *testing.T) {
	t.Parallel()
	s := weir(t)
	b := open(t, s, "/apis?per=hours&"+logRange)
	box := eval[[]float64](b, `(() => { const r = document.querySelector("#traffic .u-over").getBoundingClientRect(); return [r.x, r.y, r.width, r.height] })()`)
	y := box[1] + box[3]/2
	b.run(chromedp.DragAndDropXY(box[0]+box[2]*0.3, y, box[0]+box[2]*0.6, y))
	b.until("the address to change", `new URLSearchParams(location.search).get("from")?.endsWith(":00:00Z") && document.readyState === "complete"`)
	from := eval[string](b, `new URLSearchParams(location.search).get("from")`)
	to := eval[string](b, `new URLSearchParams(location.search).get("to")`)
	var want int64
	for hour, n := range s.want.PerHour {
		if at := hour + ":00:00Z"; at >= from && at < to {
			want += n
		}
	}
	if got := b.texts("#sums dd"); len(got) == 0 || got[0] != grouped(want) || want == 0 || want == s.want.Records {
		t.Errorf("from %s to %s: got %q calls, want %s of %d", from, to, got, grouped(want), s.want.Records)
	}
}

// traffic are the sums of the chart's rows, by the time of their bucket.
func traffic(b *tab) map[string]int64 {
	return eval[map[string]int64](b, `Object.fromEntries([...document.querySelectorAll("#traffic .twin tbody tr")].map(row => [
		row.querySelector("time").dateTime, [...row.cells].slice(1).reduce((sum, cell) => sum + Number(cell.textContent.replaceAll(",", "")), 0)]))`)
}

func parsed(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.ReplaceAll(text, ",", ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// grouped is a number as pages write it, below a million.
func grouped(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
