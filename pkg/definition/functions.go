package definition

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/ua-parser/uap-go/uaparser"

	"weir/pkg/event"
)

const (
	// memoSize is how many texts a function remembers before older ones go.
	memoSize = 8192
	// longestAgent bounds the time that one hostile user agent can cost.
	longestAgent = 1024
	unknownPlace = "Unknown"
	otherAgent   = "Other"
)

// functions holds what expressions may call, by name: text in, text out, the
// same for the same text.
type functions map[string]*memo

// newFunctions opens the GeoIP file, if one is named, for as long as the
// process lives. The user agent parser is made when it is first needed.
func newFunctions(geoIP string) (functions, error) {
	var places *maxminddb.Reader
	if geoIP != "" {
		var err error
		if places, err = maxminddb.Open(geoIP); err != nil {
			return nil, fmt.Errorf("open GeoIP file %s: %w", geoIP, err)
		}
	}
	agents := sync.OnceValues(func() (*uaparser.Parser, error) { return uaparser.New() })
	family := func(of func(p *uaparser.Parser, agent string) string) func(string) string {
		return func(agent string) string {
			parser, err := agents()
			if err != nil || agent == "" {
				return otherAgent
			}
			return of(parser, agent[:min(len(agent), longestAgent)])
		}
	}
	return functions{
		"os":      newMemo(family(func(p *uaparser.Parser, a string) string { return p.ParseOs(a).Family })),
		"browser": newMemo(family(func(p *uaparser.Parser, a string) string { return p.ParseUserAgent(a).Family })),
		"country": newMemo(func(ip string) string {
			return lookUp(places, ip, []any{"country", "names", "en"}, []any{"country", "iso_code"})
		}),
		"city": newMemo(func(ip string) string {
			return lookUp(places, ip, []any{"city", "names", "en"})
		}),
		"template": newMemo(template),
	}, nil
}

// lookUp returns the first text that the GeoIP file has for the address.
func lookUp(places *maxminddb.Reader, ip string, paths ...[]any) string {
	address, err := netip.ParseAddr(ip)
	if places == nil || err != nil {
		return unknownPlace
	}
	found := places.Lookup(address.Unmap().WithZone(""))
	for _, path := range paths {
		var name string
		if err := found.DecodePath(&name, path...); err == nil && name != "" {
			return name
		}
	}
	return unknownPlace
}

// cleaned replaces what Postgres cannot hold.
func cleaned(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// memo remembers the results of a slow function for the texts of late. Two
// generations keep it bounded without a list: when the young one is full it
// becomes the old one, and what is still in use is taken over.
type memo struct {
	event.TextFunc // get, for dictionaries
	compute        func(string) string

	mu         sync.RWMutex
	young, old map[string]string
}

func newMemo(compute func(string) string) *memo {
	m := &memo{compute: compute, young: map[string]string{}}
	m.Of = m.get
	return m
}

func (m *memo) get(text string) string {
	m.mu.RLock()
	result, ok := m.young[text]
	m.mu.RUnlock()
	if ok {
		return result
	}
	m.mu.RLock()
	result, ok = m.old[text]
	m.mu.RUnlock()
	if !ok {
		// A cut text or a foreign file may give what Postgres cannot hold.
		result = cleaned(m.compute(text))
	}
	if len(text) > longestAgent { // not worth its memory
		return result
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.young) >= memoSize {
		m.young, m.old = make(map[string]string, memoSize), m.young
	}
	m.young[text] = result
	return result
}
