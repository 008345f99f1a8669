package gateway

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// simAPI is one version of a simulated API.
type simAPI struct {
	name      string
	version   string
	context   string
	resources []simResource
	// median is the median response time in ms.
	median float64
}

type simResource struct {
	method   string
	template string
}

// simApplication is a client application, with the users it serves.
type simApplication struct {
	id, name, owner, key string
	users                []simUser
	round                []simStop // that its users go, over and over
}

// simStop is what an application calls at one step of its round.
type simStop struct {
	api      *simAPI
	resource int
}

type simUser struct {
	name, ip, agent string
	at              int // the step of the round at which the last call was
}

// traffic is the world that a simulator draws from. Everything in it is made up: addresses are of the
// ranges reserved for documentation.
type traffic struct {
	apis         []simAPI
	apiSkew      skew
	applications []simApplication
	appSkew      skew
}

const (
	simApplications = 20
	simUsers        = 25 // of an application
	simRound        = 8  // steps of a round
)

// newTraffic builds the world. It is the same for every simulator but for the users, which random decides: who
// calls through one gateway calls through no other, as where sessions are sticky, and so calls in order.
func newTraffic(random *rand.Rand) traffic {
	t := traffic{apis: simAPIs()}
	t.apiSkew = newSkew(len(t.apis), 1.1)
	same := rand.New(rand.NewPCG(1, 0)) //nolint:gosec // traffic that does not exist
	for n := range simApplications {
		app := simApplication{
			id:    fmt.Sprint(n + 1),
			name:  fmt.Sprintf("app-%02d", n+1),
			owner: fmt.Sprintf("owner-%d", n%7+1),
			key:   fmt.Sprintf("key-%016x", random.Uint64()),
			round: []simStop{{api: &t.apis[n%len(t.apis)]}},
		}
		for len(app.round) < simRound {
			if stop := t.draw(same); !slices.Contains(app.round, stop) {
				app.round = append(app.round, stop)
			}
		}
		for range simUsers {
			app.users = append(app.users, simUser{
				name:  fmt.Sprintf("user-%06d", random.IntN(1_000_000)),
				ip:    simIP(random),
				agent: pick(random, simAgents()),
				at:    random.IntN(simRound),
			})
		}
		t.applications = append(t.applications, app)
	}
	t.appSkew = newSkew(simApplications, 1.0)
	return t
}

// draw draws what is called, as often as all applications together call it.
func (t *traffic) draw(random *rand.Rand) simStop {
	stop := simStop{api: &t.apis[t.apiSkew.draw(random)]} // GET of one
	switch at := random.Float64(); {
	case at > 0.97:
		stop.resource = 4
	case at > 0.93:
		stop.resource = 3
	case at > 0.83:
		stop.resource = 2
	case at > 0.58:
		stop.resource = 1
	}
	return stop
}

// simAPIs lists 12 APIs in one to three versions, the busiest first.
func simAPIs() []simAPI {
	list := []struct {
		name     string
		versions []string
		median   float64
		entity   string
	}{
		{"catalog", []string{"v2", "v1"}, 35, "products"},
		{"search", []string{"v1"}, 120, "results"},
		{"orders", []string{"v3", "v2", "v1"}, 80, "orders"},
		{"inventory", []string{"v1"}, 25, "stock"},
		{"accounts", []string{"v2", "v1"}, 45, "accounts"},
		{"payments", []string{"v2"}, 240, "payments"},
		{"shipping", []string{"v1"}, 95, "parcels"},
		{"notifications", []string{"v1"}, 30, "messages"},
		{"pricing", []string{"v2", "v1"}, 20, "prices"},
		{"reviews", []string{"v1"}, 50, "reviews"},
		{"loyalty", []string{"v1"}, 60, "cards"},
		{"reports", []string{"v1"}, 700, "reports"},
	}
	var apis []simAPI
	for _, api := range list {
		for _, version := range api.versions {
			apis = append(apis, simAPI{
				name:    api.name,
				version: version,
				context: "/" + api.name + "/" + version,
				median:  api.median,
				resources: []simResource{
					{"GET", "/" + api.entity + "/{id}"},
					{"GET", "/" + api.entity},
					{"POST", "/" + api.entity},
					{"PUT", "/" + api.entity + "/{id}"},
					{"DELETE", "/" + api.entity + "/{id}"},
				},
			})
		}
	}
	return apis
}

func simAgents() []string {
	return []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
		"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
		"okhttp/4.12.0",
		"python-requests/2.32.3",
		"Go-http-client/2.0",
		"curl/8.7.1",
	}
}

// simIP draws an address of the documentation ranges of RFC 5737 and, one in eight, RFC 3849.
func simIP(random *rand.Rand) string {
	if random.IntN(8) == 0 {
		return fmt.Sprintf("2001:db8::%x", 1+random.IntN(0xfffe))
	}
	return fmt.Sprintf("%s.%d", pick(random, []string{"192.0.2", "198.51.100", "203.0.113"}), 1+random.IntN(254))
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// skew draws ranks 0..n-1 by Zipf's law: rank r with a weight of 1/(r+1)^s.
type skew []float64 // cumulated weights

func newSkew(n int, s float64) skew {
	cumulated := make(skew, n)
	total := 0.0
	for rank := range cumulated {
		total += math.Pow(float64(rank+1), -s)
		cumulated[rank] = total
	}
	return cumulated
}

func (s skew) draw(random *rand.Rand) int {
	at := random.Float64() * s[len(s)-1]
	return min(sort.SearchFloat64s(s, at), len(s)-1)
}
