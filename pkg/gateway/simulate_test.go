package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"weir/pkg/stream"
)

// simulated is the first n events of a simulator, at 100 a second from a fixed time on.
func simulated(t *testing.T, seed uint64, n int) []SimulatedEvent {
	t.Helper()
	s := NewSimulator(SimulatorConfig{Source: "gw-1", Seed: seed})
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	events := make([]SimulatedEvent, n)
	for i := range events {
		var err error
		if events[i], err = s.Next(now.Add(time.Duration(i) * 10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func TestSimulator_RepeatsItselfBySeed(t *testing.T) {
	t.Parallel()
	first, again, other := simulated(t, 7, 5000), simulated(t, 7, 5000), simulated(t, 8, 5000)
	equal := 0
	for i := range first {
		if first[i].Expect != again[i].Expect || !bytes.Equal(first[i].JSON, again[i].JSON) {
			t.Fatalf("event %d: got %s, then %s", i, first[i].JSON, again[i].JSON)
		}
		if bytes.Equal(first[i].JSON, other[i].JSON) {
			equal++
		}
	}
	if equal > 0 {
		t.Errorf("%d events are equal under another seed", equal)
	}
}

// attributes are those that the test looks at, of all three types.
type attributes struct {
	APIName, APIVersion, APIContext, APICreator, Label, Properties, ApplicationID, Username string
	APIHostname, Hostname, ThrottledOutReason                                               string
	RequestTimestamp, ThrottledOutTimestamp                                                 int64
	ResponseTime, ServiceTime, BackendTime, BackendLatency, OtherLatency                    int64
	SecurityLatency, ThrottlingLatency, RequestMedLat, ResponseMedLat, ResponseSize         int64
	ResponseCode                                                                            int
}

func TestSimulator_HasTheProportionsOfRealTraffic(t *testing.T) {
	t.Parallel()
	const n = 40_000
	type limit struct{ api, application string }
	types, apis, names, apps := map[string]int{}, map[string]int{}, map[string]bool{}, map[string]int{}
	bursts := map[limit]int{}
	var slow, clientErrors, serverErrors int
	for i, event := range simulated(t, 1, n) {
		var a attributes
		if err := json.Unmarshal(event.JSON, &a); err != nil {
			t.Fatal(err)
		}
		if a.APICreator != "generated" || a.Properties != `{"generated":true}` {
			t.Fatalf("not labelled as generated: %s", event.JSON)
		}
		at := (a.RequestTimestamp + a.ThrottledOutTimestamp) / 1000
		if event.Hostname != "gw-1" || a.APIHostname+a.Hostname != "gw-1" || event.APIContext != a.APIContext || event.Second != at {
			t.Fatalf("the event says otherwise than %+v: %s", event.Expect, event.JSON)
		}
		types[event.Type]++
		apis[a.APIContext]++
		names[a.APIName] = true
		apps[a.ApplicationID]++
		switch event.Type {
		case TypeThrottle:
			bursts[limit{a.APIContext, a.ApplicationID}]++
			continue
		case TypeFault:
			continue
		}
		parts := a.SecurityLatency + a.ThrottlingLatency + a.RequestMedLat + a.ResponseMedLat + a.OtherLatency + a.BackendLatency
		least := min(a.ServiceTime, a.BackendTime, a.OtherLatency, a.SecurityLatency, a.ThrottlingLatency, a.ResponseSize)
		if a.ResponseTime <= 0 || a.ServiceTime+a.BackendTime != a.ResponseTime || parts != a.ResponseTime || least < 0 {
			t.Fatalf("event %d: times do not add up: %s", i, event.JSON)
		}
		if a.ResponseTime > 5000 {
			slow++
		}
		switch a.ResponseCode / 100 {
		case 4:
			clientErrors++
		case 5:
			serverErrors++
		}
	}
	for _, share := range []struct {
		what      string
		count     int
		low, high float64 // per cent
	}{
		{"throttled", types[TypeThrottle], 1.5, 2.6},
		{"faults", types[TypeFault], 0.4, 0.6},
		{"above 5 s", slow, 0.05, 0.15},
		{"4xx", clientErrors, 3, 5},
		{"5xx", serverErrors, 0.5, 1.1},
		{"busiest API", apis["/catalog/v2"], 15, 35},
		{"busiest application", apps["1"], 20, 40},
	} {
		if got := 100 * float64(share.count) / n; got < share.low || got > share.high {
			t.Errorf("%s: got %.2f %%, want %.2f to %.2f", share.what, got, share.low, share.high)
		}
	}
	if len(names) != 12 || len(apis) != 17 || len(apps) != 20 {
		t.Errorf("got %d APIs in %d versions, %d applications; want 12, 17, 20", len(names), len(apis), len(apps))
	}
	hot := 0 // in seven minutes
	for _, count := range bursts {
		if count > 30 {
			hot++
		}
	}
	if hot < 3 {
		t.Errorf("throttled calls are spread over %d limits, of which %d are crossed clearly", len(bursts), hot)
	}
}

func TestSimulator_ThrottlesEarly(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		throttled := 0
		for _, event := range simulated(t, seed, 500) {
			if event.Type == TypeThrottle {
				throttled++
			}
		}
		if throttled < burstMin {
			t.Errorf("seed %d: %d throttled calls in the first 500, want %d at least", seed, throttled, burstMin)
		}
	}
}

func TestSimulator_ExpectsExactlyWhatTheStreamGets(t *testing.T) {
	t.Parallel()
	conn := replayStream(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	publisher, err := NewPublisher(conn, PublisherConfig{Source: "gw-1", HeartbeatEvery: -1, OnAck: func(string, int) { cancel() }})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSimulator(SimulatorConfig{Source: "gw-1", Rate: 5000, Seed: 3, Record: true})
	if err := s.Run(ctx, publisher); err != nil {
		t.Fatal(err)
	}
	if err := publisher.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(map[Expect]int64)
	for _, m := range storedMessages(t, conn) {
		eventType, source, ok := stream.ParseEventSubject(m.Subject)
		if !ok {
			t.Fatalf("got subject %s", m.Subject)
		}
		for line := range bytes.Lines(m.Data) {
			var a attributes
			if err := json.Unmarshal(line, &a); err != nil {
				t.Fatal(err)
			}
			got[Expect{Type: eventType, APIContext: a.APIContext, Hostname: source, Second: (a.RequestTimestamp + a.ThrottledOutTimestamp) / 1000}]++
		}
	}
	if want := s.Expected(); len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("the stream has %v, expected %v", got, want)
	}
}

func TestSimulator_SaysWhenThePublisherFails(t *testing.T) {
	t.Parallel()
	publisher, err := NewPublisher(replayStream(t), PublisherConfig{Source: "gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := NewSimulator(SimulatorConfig{Source: "gw-1"}).Run(t.Context(), publisher); !errors.Is(err, ErrClosed) {
		t.Errorf("got error %v, want ErrClosed", err)
	}
}

// Users go through an application's resources in an order that its users do, but for a few: else every call of the
// demo were an abnormal one.
func TestSimulator_UsersGoTheRoundsOfTheirApplication(t *testing.T) {
	t.Parallel()
	type step struct{ application, from, to string }
	steps, all, left := map[step]int{}, 0, map[step]int{}
	for seed := range uint64(3) { // gateways, beside each other
		last := map[string]string{}
		for _, event := range simulated(t, seed, 40_000) {
			if event.Type != TypeRequest {
				continue
			}
			var a struct{ APIMethod, APIContext, APIResourceTemplate, ApplicationID, Username string }
			if err := json.Unmarshal(event.JSON, &a); err != nil {
				t.Fatal(err)
			}
			to := a.APIMethod + " " + a.APIContext + " " + a.APIResourceTemplate
			if from := last[a.Username]; from != "" && a.Username != "anonymous" {
				steps[step{a.ApplicationID, from, to}]++
				left[step{a.ApplicationID, from, ""}]++
				all++
			}
			last[a.Username] = to
		}
	}
	strange := 0
	for s, n := range steps {
		if 5*n < left[step{s.application, s.from, ""}] {
			strange += n
		}
	}
	if strange == 0 || strange > all/2000 {
		t.Errorf("%d of %d steps have a probability below 0.2", strange, all)
	}
}
