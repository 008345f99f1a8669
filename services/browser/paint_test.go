package browser

import (
	"net/url"
	"os"
	"slices"
	"testing"

	"weir/services/local"
)

// dashboard is the address of a Weir that runs (`task paint`).
const dashboard = "WEIR_DASHBOARD"

// How long each page takes to its first paint, from the click on: the median of seven.
func TestPaint(t *testing.T) {
	at, err := url.Parse(os.Getenv(dashboard))
	if err != nil {
		t.Fatal(err)
	}
	if at.Host == "" {
		t.Skip("first paints are measured by `task paint`, which names a dashboard that runs in " + dashboard)
	}
	s := &site{Instance: &local.Instance{HTTPURL: at.Scheme + "://" + at.Host}}
	for _, page := range pages() {
		var paints []float64
		for range 7 {
			b := openOn(t, s, page.path, desk())
			b.until("the first paint", `performance.getEntriesByName("first-contentful-paint").length > 0`)
			paints = append(paints, eval[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
			b.close()
		}
		slices.Sort(paints)
		t.Logf("%-13s %4.0f ms (%.0f to %.0f)", page.name, paints[3], paints[0], paints[6])
	}
}
