package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// madeLog writes an access log of n calls over some days, and counts them as it writes: what no worker can have
// from a real log alone is not shown by the tests that take this one, and it takes a fraction of the time.
func madeLog(t *testing.T, n int) (path string, o *oracle) {
	t.Helper()
	first := time.Date(2025, 11, 29, 22, 0, 0, 0, time.UTC) // so that hours, days and months end in it
	o = &oracle{
		Records: int64(n), First: first, PerHour: map[string]int64{}, PerDay: map[string]int64{}, PerMonth: map[string]int64{},
		PerStatus: map[string]int64{}, PerClass: map[string]int64{}, PerMethod: map[string]int64{},
	}
	methods, statuses := []string{"GET", "GET", "POST", "GET", "HEAD"}, []string{"200", "200", "404", "304", "200", "503", "201"}
	var log strings.Builder
	for i := range n {
		at := first.Add(time.Duration(i) * 30 * time.Second)
		method, status := methods[i%len(methods)], statuses[i%len(statuses)]
		fmt.Fprintf(&log, "192.0.2.%d - - [%s] \"%s /api-%d/item HTTP/1.1\" %s 12 \"-\" \"curl/8.7.1\"\n",
			i%9, at.Format("02/Jan/2006:15:04:05 -0700"), method, i%4, status)
		o.PerHour[at.Format("2006-01-02T15")]++
		o.PerDay[at.Format(time.DateOnly)]++
		o.PerMonth[at.Format("2006-01")]++
		o.PerStatus[status]++
		o.PerClass[status[:1]+"xx"]++
		o.PerMethod[method]++
	}
	path = filepath.Join(t.TempDir(), "made.log")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, o
}
