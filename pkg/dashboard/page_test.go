package dashboard_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// get reads a page.
func (s site) get(t *testing.T, path string, parameters ...string) string {
	t.Helper()
	values := url.Values{"from": {began().Format(time.RFC3339)}, "to": {now().Format(time.RFC3339)}}
	for i := 0; i+1 < len(parameters); i += 2 {
		values.Set(parameters[i], parameters[i+1])
	}
	return s.read(t, path+"?"+values.Encode(), http.StatusOK)
}

func (s site) read(t *testing.T, address string, status int) string {
	t.Helper()
	answer, err := s.Client().Get(s.URL + address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != status {
		t.Fatalf("%s: got %s, want %d\n%s", address, answer.Status, status, body)
	}
	return string(body)
}

// panel is one panel's HTML.
func panel(t *testing.T, page, id string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, `id="`+id+`"`)
	section, _, ok2 := strings.Cut(rest, "</section>")
	if !ok || !ok2 {
		t.Fatalf("there is no panel %s in\n%s", id, page)
	}
	return section
}

// rows are the cells of a panel's table, as they are read.
func rows(t *testing.T, page, id string) [][]string {
	t.Helper()
	_, body, ok := strings.Cut(panel(t, page, id), "<tbody>")
	if !ok {
		t.Fatalf("panel %s has no table:\n%s", id, panel(t, page, id))
	}
	var out [][]string
	for _, row := range strings.SplitAfter(body, "</tr>") {
		var cells []string
		for _, cell := range regexp.MustCompile(`(?s)<t[hd][^>]*>(.*?)</t[hd]>`).FindAllStringSubmatch(row, -1) {
			if !strings.HasPrefix(cell[0], `<td class="b"`) && !strings.HasPrefix(cell[0], `<td class="wide"`) {
				cells = append(cells, html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(cell[1], "")))
			}
		}
		if cells != nil {
			out = append(out, cells)
		}
	}
	return out
}

// tiles are the figures of a panel by their names, without units.
func tiles(t *testing.T, page, id string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, tile := range regexp.MustCompile(`<dt>([^<]*)</dt><dd>([^<]*)`).FindAllStringSubmatch(panel(t, page, id), -1) {
		out[html.UnescapeString(tile[1])] = strings.TrimSpace(html.UnescapeString(tile[2]))
	}
	return out
}

// sum is what the oracle says of some calls.
type sum struct{ calls, served, c4xx, c5xx, faults, throttled int }

func (s *sum) add(c call) {
	s.calls++
	switch c.kind {
	case "fault":
		s.faults++
	case "throttle":
		s.throttled++
	default:
		s.served++
		s.c4xx += count(c.code/100 == 4)
		s.c5xx += count(c.code/100 == 5)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s sum) rate() string {
	return fmt.Sprintf("%.2f", 100*float64(s.c4xx+s.c5xx+s.faults)/float64(s.calls))
}

// sums adds calls up by a name of each; "" is none.
func (s site) sums(name func(call) string) map[string]*sum {
	all := map[string]*sum{}
	for _, c := range s.calls {
		key := name(c)
		if key == "" {
			continue
		}
		if all[key] == nil {
			all[key] = &sum{}
		}
		all[key].add(c)
	}
	return all
}

// digits writes a number as tables do, by other means than the product.
func digits(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func TestPages_HaveTheNumbersOfTheEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, test := range map[string]func(*testing.T, site){
		"tiles":                        testTiles,
		"a table by API":               testTable,
		"traffic over time":            testOverTime,
		"filters":                      testFilters,
		"a range within a range":       testZoom,
		"sorting and pages of a table": testSorting,
		"percentiles":                  testPercentiles,
		"codes, faults and reasons":    testErrors,
		"hostile names":                testHostile,
		"every page":                   testEveryPage,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, s) })
	}
}

func testTiles(t *testing.T, s site) {
	want := *s.sums(func(call) string { return "all" })["all"]
	s.wantTiles(t, s.get(t, "/apis"), want)
}

func (s site) wantTiles(t *testing.T, page string, want sum) {
	t.Helper()
	got := tiles(t, page, "sums")
	for name, n := range map[string]int{
		"Calls": want.calls, "Served": want.served, "4xx": want.c4xx, "5xx": want.c5xx, "Faults": want.faults, "Throttled": want.throttled,
	} {
		if got[name] != digits(n) {
			t.Errorf("%s: got %s, want %s", name, got[name], digits(n))
		}
	}
	if got["Error rate"] != want.rate() {
		t.Errorf("error rate: got %s, want %s", got["Error rate"], want.rate())
	}
}

func testTable(t *testing.T, s site) {
	want := s.sums(func(c call) string { return c.api + "\x00" + c.version })
	seen := 0
	for n := 1; seen < len(want); n++ {
		page := rows(t, s.get(t, "/apis", "page.apis", strconv.Itoa(n)), "apis")
		if len(page) == 0 {
			t.Fatalf("got %d rows, want %d", seen, len(want))
		}
		for _, row := range page {
			seen++
			w := want[row[0]+"\x00"+row[1]]
			if w == nil {
				t.Errorf("there is no API %q", row[:2])
				continue
			}
			figures := []string{digits(w.calls), digits(w.c4xx), digits(w.c5xx), digits(w.faults), digits(w.throttled), w.rate()}
			if !slices.Equal(row[2:8], figures) {
				t.Errorf("%q: got %v, want %v", row[:2], row[2:8], figures)
			}
		}
	}
}

func testOverTime(t *testing.T, s site) {
	want := s.sums(func(c call) string { return c.at.Truncate(time.Minute).Format("2 Jan 15:04") })
	got := rows(t, s.get(t, "/apis"), "traffic")
	if len(got) != 240 {
		t.Fatalf("got %d minutes, want 240", len(got))
	}
	for _, row := range got {
		w := want[row[0]]
		if w == nil {
			w = &sum{}
		}
		figures := []string{digits(w.served - w.c4xx - w.c5xx), digits(w.c4xx), digits(w.c5xx), digits(w.faults), digits(w.throttled)}
		if !slices.Equal(row[1:], figures) {
			t.Errorf("%s: got %v, want %v", row[0], row[1:], figures)
		}
	}
}

func testFilters(t *testing.T, s site) {
	for _, f := range []struct {
		parameters []string
		has        func(call) bool
	}{
		{[]string{"api", "pizza"}, func(c call) bool { return c.api == "pizza" }},
		{[]string{"api", "pizza", "version", "2.0"}, func(c call) bool { return c.api == "pizza" && c.version == "2.0" }},
		{[]string{"api", hostile}, func(c call) bool { return c.api == hostile }},
		{[]string{"api", ".."}, func(c call) bool { return c.api == ".." }},
		{[]string{"app", "app 3"}, func(c call) bool { return c.app == "app 3" }},
		{[]string{"api", "pizza", "app", "app 3"}, func(c call) bool { return c.api == "pizza" && c.app == "app 3" }},
	} {
		page := s.get(t, "/apis", f.parameters...)
		want := s.sums(func(c call) string { return map[bool]string{true: "it"}[f.has(c)] })["it"]
		s.wantTiles(t, page, *want)
		// An aggregation that knows an API by its context only.
		users := map[string]int{}
		for _, c := range s.calls {
			if c.kind == "request" && f.has(c) {
				users[c.user+" of "+c.tenant]++
			}
		}
		for _, row := range rows(t, page, "users") {
			if n := users[row[0]+" of "+row[1]]; row[2] != digits(n) {
				t.Errorf("%q: calls of %s: got %s, want %d", f.parameters, row[0], row[2], n)
			}
		}
	}
}

func testZoom(t *testing.T, s site) {
	from, to := began().Add(time.Hour), began().Add(time.Hour+5*time.Minute)
	want := s.sums(func(c call) string { return map[bool]string{true: "in"}[!c.at.Before(from) && c.at.Before(to)] })["in"]
	page := s.get(t, "/apis", "from", "2026-03-10T09:30:00", "to", "2026-03-10T09:35:00")
	s.wantTiles(t, page, *want)
	if got := len(rows(t, page, "traffic")); got != 300 {
		t.Errorf("got %d buckets, want 300 seconds", got)
	}
	if got := s.get(t, "/apis", "per", "hours"); len(rows(t, got, "traffic")) != 5 { // 08:30 to 12:30 begins and ends within one
		t.Errorf("per hours: got %d buckets, want 5", len(rows(t, got, "traffic")))
	}
}

func testSorting(t *testing.T, s site) {
	page := s.get(t, "/apis", "sort.apis", "-throttled")
	previous := 1 << 30
	for _, row := range rows(t, page, "apis") {
		n, err := strconv.Atoi(row[6])
		if err != nil || n > previous {
			t.Errorf("got %s after %d", row[6], previous)
		}
		previous = n
	}
	if !strings.Contains(panel(t, page, "apis"), `aria-sort="descending"`) {
		t.Error("the head does not say what it is sorted by")
	}
	for _, n := range []string{"0", "99999999999999999999", "x"} {
		if got := panel(t, s.get(t, "/apis", "page.apis", n), "apis"); !strings.Contains(got, "no such page") {
			t.Errorf("page %s: got\n%s", n, got)
		}
	}
	apis := len(s.sums(func(c call) string { return c.api + "\x00" + c.version }))
	second := rows(t, s.get(t, "/apis", "page.apis", "2", "sort.apis", "api"), "apis")
	if len(second) != apis-20 {
		t.Errorf("got %d rows on the second page, want %d", len(second), apis-20)
	}
}

func testPercentiles(t *testing.T, s site) {
	var all []float64
	for _, c := range s.calls {
		if c.kind == "request" && c.api == "pizza" {
			all = append(all, float64(c.response))
		}
	}
	slices.Sort(all)
	got := tiles(t, s.get(t, "/apis/one", "api", "pizza"), "speeds")
	for name, q := range map[string]float64{"p50": .5, "p95": .95, "p99": .99} {
		want := all[int(q*float64(len(all)-1))]
		n, err := strconv.ParseFloat(got[name], 64)
		if err != nil || n < want*.97 || n > want*1.03 { // a percentile is within 1 %, and the next call may be meant
			t.Errorf("%s: got %s, want about %v", name, got[name], want)
		}
	}
}

func testErrors(t *testing.T, s site) {
	codes, faults, reasons := map[string]int{}, map[string]int{}, map[string]int{}
	for _, c := range s.calls {
		switch {
		case c.kind == "fault":
			faults[c.faultCode]++
		case c.kind == "throttle":
			reasons[c.reason]++
		case c.code >= 400:
			codes[fmt.Sprint(c.code, " ", http.StatusText(c.code))]++
		}
	}
	page := s.get(t, "/errors")
	wantCounts(t, rows(t, page, "codes"), 1, codes)
	wantCounts(t, rows(t, page, "faults"), 2, faults)
	wantCounts(t, rows(t, s.get(t, "/throttling"), "reasons"), 1, reasons)
}

// wantCounts compares a table's first column and the counts in another one.
func wantCounts(t *testing.T, got [][]string, at int, want map[string]int) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d rows, want %d: %v", len(got), len(want), got)
	}
	for _, row := range got {
		if row[at] != digits(want[row[0]]) {
			t.Errorf("%s: got %s, want %d", row[0], row[at], want[row[0]])
		}
	}
}

func paths() []string {
	return []string{"/", "/apis", "/applications", "/errors", "/latency", "/throttling", "/devices", "/alerts", "/pipeline"}
}

func testHostile(t *testing.T, s site) {
	for _, path := range append(paths(), "/apis/one") {
		page := s.get(t, path, "api", hostile)
		for _, never := range []string{"<script>", "<img", "onerror=alert(2)>", `"'>`} {
			if strings.Contains(page, never) {
				t.Errorf("%s has %q as it was sent", path, never)
			}
		}
		if path == "/apis" && !strings.Contains(page, "&lt;script&gt;alert(1)") {
			t.Error("the name is not shown")
		}
	}
}

func testEveryPage(t *testing.T, s site) {
	for _, path := range append(paths(), "/apis/one") {
		page := s.get(t, path, "api", "pizza")
		if strings.Contains(page, `class="problem"`) && path != "/pipeline" { // which has no stream here
			t.Errorf("%s has a panel that failed:\n%s", path, page)
		}
		if !strings.Contains(page, "complete through") || !strings.Contains(page, "12:29:59") {
			t.Errorf("%s does not say how far it is complete", path)
		}
		for _, link := range regexp.MustCompile(`<a href="([^"]*)" data-key`).FindAllStringSubmatch(page, -1) {
			if address := html.UnescapeString(link[1]); !strings.Contains(address, "api=pizza") || !strings.Contains(address, "from=2026-03-10") {
				t.Errorf("%s: the link %s does not carry the scope over", path, address)
			}
		}
		for _, attribute := range []string{" style=", " onclick", "<style", "http://", "https://"} {
			if i := strings.Index(page, attribute); i >= 0 && !strings.Contains(page[i:min(len(page), i+40)], "backend.example") {
				t.Errorf("%s has %s", path, page[max(0, i-40):min(len(page), i+40)])
			}
		}
	}
}
