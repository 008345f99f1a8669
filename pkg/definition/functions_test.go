package definition

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// mmText, mmNumber and mmMap write values of the MaxMind database format.
func mmText(s string) string { return string([]byte{2<<5 | byte(len(s))}) + s }

func mmNumber(kind, n byte) string { return string([]byte{kind<<5 | 1, n}) }

func mmMap(pairs ...string) string {
	return string([]byte{7<<5 | byte(len(pairs)/2)}) + strings.Join(pairs, "")
}

// geoFile writes a database in which 0.0.0.0/1 lies in Lyon and all else is
// unknown.
func geoFile(t *testing.T) string {
	t.Helper()
	name := func(s string) string { return mmMap(mmText("names"), mmMap(mmText("en"), mmText(s))) }
	const nodes, separator = 1, 16
	tree := string([]byte{0, 0, nodes + separator, 0, 0, nodes})
	data := mmMap(mmText("country"), name("France"), mmText("city"), name("Lyon"))
	const uint16Kind, uint32Kind = 5, 6
	metadata := mmMap(
		mmText("node_count"), mmNumber(uint32Kind, nodes),
		mmText("record_size"), mmNumber(uint16Kind, 24),
		mmText("ip_version"), mmNumber(uint16Kind, 4),
		mmText("binary_format_major_version"), mmNumber(uint16Kind, 2),
		mmText("binary_format_minor_version"), string([]byte{uint16Kind << 5}),
		mmText("database_type"), mmText("Test"),
		mmText("build_epoch"), string([]byte{1, 2, 1}),
		mmText("languages"), string([]byte{1, 4})+mmText("en"),
		mmText("description"), mmMap(mmText("en"), mmText("test")),
	)
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	content := tree + strings.Repeat("\x00", separator) + data + "\xab\xcd\xefMaxMind.com" + metadata
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPlaces_ComeFromTheGeoIPFile(t *testing.T) {
	t.Parallel()
	f, err := newFunctions(geoFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]string{
		"1.2.3.4": "France Lyon", "::ffff:1.2.3.4": "France Lyon", "200.1.2.3": "Unknown Unknown",
		"": "Unknown Unknown", "not an address": "Unknown Unknown", "2001:db8::1": "Unknown Unknown",
	} {
		if got := f["country"].get(ip) + " " + f["city"].get(ip); got != want {
			t.Errorf("%q: got %s, want %s", ip, got, want)
		}
	}
}

func TestLoadWith_ReportsAMissingGeoIPFile(t *testing.T) {
	t.Parallel()
	_, err := LoadWith(os.DirFS(t.TempDir()), Options{GeoIP: "absent.mmdb"})
	if err == nil || !strings.HasPrefix(err.Error(), "open GeoIP file absent.mmdb: ") {
		t.Errorf("got %v", err)
	}
}

func TestAgents_AreNamedByFamily(t *testing.T) {
	t.Parallel()
	f, err := newFunctions("")
	if err != nil {
		t.Fatal(err)
	}
	for agent, want := range map[string]string{
		"": "Other Other",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0":                                                        "Windows Firefox",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1": "iOS Mobile Safari",
		"curl/8.1.2":                    "Other curl",
		strings.Repeat("x", 10_000_000): "Other Other",
	} {
		if got := f["os"].get(agent) + " " + f["browser"].get(agent); got != want {
			t.Errorf("%.60q: got %s, want %s", agent, got, want)
		}
	}
}

func TestMemo_RemembersWhatIsInUseAndStaysBounded(t *testing.T) {
	t.Parallel()
	var computed atomic.Int64
	m := newMemo(func(text string) string {
		computed.Add(1)
		return strings.ToUpper(text)
	})
	for i := range 5 * memoSize {
		if got := m.get("hot"); got != "HOT" {
			t.Fatalf("got %s", got)
		}
		if text := fmt.Sprint("cold", i); m.get(text) != strings.ToUpper(text) {
			t.Fatal(text)
		}
	}
	if got, want := computed.Load(), int64(5*memoSize+1); got != want {
		t.Errorf("computed %d times, want %d: a text in use is computed once", got, want)
	}
	if got := len(m.young) + len(m.old); got > 2*memoSize {
		t.Errorf("remembers %d texts, want at most %d", got, 2*memoSize)
	}
}
