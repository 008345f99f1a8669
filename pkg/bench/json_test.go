package bench

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// filled is a report that has everything: no pointer in it is nil.
func filled(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				filled(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	}
}

// keys are the paths of the leaves of a JSON object: full_pack.cpu_us_per_event.worker.
func keys(path string, value any, all map[string]bool) {
	object, ok := value.(map[string]any)
	if !ok {
		all[path] = true
		return
	}
	for name, inner := range object {
		keys(strings.TrimPrefix(path+"."+name, "."), inner, all)
	}
}

func reportKeys(t *testing.T) map[string]bool {
	t.Helper()
	var r Report
	filled(reflect.ValueOf(&r).Elem())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	keys("", object, all)
	return all
}

// Programs read these, so their names stay.
func TestReport_HasTheKeysThatWerePromised(t *testing.T) {
	t.Parallel()
	promised := []string{"batch", "workers", "runs", "bare.events_per_s", "live.events_per_s", "live.p50_ms", "live.p99_ms", "peak_rss_mb.worker", "peak_rss_mb.nats", "peak_rss_mb.postgres"}
	for _, kind := range []string{"full_pack", "one_aggregation"} {
		for _, key := range []string{
			"events_per_s", "cpu_us_per_event.worker", "cpu_us_per_event.nats", "cpu_us_per_event.postgres", "wal_bytes_per_event", "rows_per_event", "exact",
		} {
			promised = append(promised, kind+"."+key)
		}
	}
	all := reportKeys(t)
	for _, key := range promised {
		if !all[key] {
			t.Errorf("the report has no %s", key)
		}
	}
}

// docs/performance.md has a row for each key, and none for what is no key.
func TestReport_IsDocumentedKeyByKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "### What --json writes\n")
	if !ok {
		t.Fatal("docs/performance.md has no section on what --json writes")
	}
	section, _, _ = strings.Cut(section, "\n#")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[key[1]] = true
		}
	}
	written := map[string]bool{}
	parts := regexp.MustCompile(`(cpu_us_per_event|_spread|peak_rss_mb)\.\w+$`) // of processes; least and most
	for key := range reportKeys(t) {
		key = strings.Replace(key, "one_aggregation.", "full_pack.", 1) // the same
		written[parts.ReplaceAllString(key, "$1")] = true
	}
	got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(written))
	if !slices.Equal(got, want) {
		t.Errorf("documented\n%s\nwritten\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
