package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

// BenchmarkPublish publishes events of 500 bytes, 1 and 100 a message, and
// compares that with the asynchronous publishing of the client library, as
// nats bench does it: the same messages, made before, of which as many may be under
// way; in turn, to a server in a process of its own. One iteration is one turn:
//
//	go test -run '^$' -bench Publish -benchtime 7x ./pkg/gateway
//
// Where WEIR_NATS_BENCH is the path of the nats program, `nats bench` itself publishes as many messages of that size
// in each turn, too; its rate is the one that it prints, without the start of its process.
func BenchmarkPublish(b *testing.B) {
	b.Run("1", func(b *testing.B) { benchmarkPublish(b, 1, 40_000) })
	b.Run("100", func(b *testing.B) { benchmarkPublish(b, 100, 1_000) })
}

const benchInFlight = 512

func benchmarkPublish(b *testing.B, events, messages int) {
	server := embeddedtest.NATSInProcess(b)
	conn, err := stream.Connect(b.Context(), stream.Config{URL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	if _, err := conn.Provision(b.Context(), stream.Provision{}); err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(benchInFlight))
	if err != nil {
		b.Fatal(err)
	}
	own := natsBench{program: os.Getenv("WEIR_NATS_BENCH"), url: server.URL, size: 501 * events, messages: messages}
	event := fmt.Appendf(nil, `{"n":%q}`, bytes.Repeat([]byte("x"), 492))
	embeddedtest.Race{
		Server: server, Of: events * messages, Unit: "event",
		Runners: []embeddedtest.Runner{
			{Name: "weir", Run: func() { publishAll(b, conn, event, events, messages) }},
			{Name: "bare", Run: func() { publishBare(b, js, event, events, messages) }},
		},
		Between: func() { own.run(b, 2) }, // before each of the two
	}.Run(b)
	own.report(b, events)
}

// natsBench is the nats program; without one nothing is run.
type natsBench struct {
	program, url   string
	size, messages int
	calls          int
	rates          []float64 // messages a second
}

// run runs it at every so many calls.
func (n *natsBench) run(b *testing.B, every int) {
	b.Helper()
	if n.calls++; n.program == "" || n.calls%every != 1 {
		return
	}
	out, err := exec.CommandContext(b.Context(), n.program, "bench", "-s", n.url, "js", "pub", "async", stream.EventSubject("request", "gw-3"),
		"--stream", "EVENTS", "--dedup", "--clients", "1", "--batch", strconv.Itoa(benchInFlight), "--no-progress",
		"--size", strconv.Itoa(n.size), "--msgs", strconv.Itoa(n.messages)).CombinedOutput() //nolint:gosec // whoever runs the benchmark names the program
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	found := regexp.MustCompile(`stats: ([0-9,]+) msgs/sec`).FindSubmatch(out)
	if found == nil {
		b.Fatalf("no rate in\n%s", out)
	}
	rate, err := strconv.ParseFloat(strings.ReplaceAll(string(found[1]), ",", ""), 64)
	if err != nil {
		b.Fatal(err)
	}
	n.rates = append(n.rates, rate)
}

func (n *natsBench) report(b *testing.B, events int) {
	b.Helper()
	if len(n.rates) == 0 {
		return
	}
	slices.Sort(n.rates)
	b.ReportMetric(n.rates[len(n.rates)/2]*float64(events), "nats-bench-event/s")
}

func publishAll(b *testing.B, conn *stream.Conn, event []byte, events, messages int) {
	b.Helper()
	p, err := NewPublisher(conn, PublisherConfig{Source: "gw-1", BatchEvents: events, MaxInFlight: benchInFlight})
	if err != nil {
		b.Fatal(err)
	}
	for range events * messages {
		if err := p.Publish(b.Context(), "request", event); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func publishBare(b *testing.B, js jetstream.JetStream, event []byte, events, messages int) {
	b.Helper()
	body := bytes.Repeat(append(event, '\n'), events)
	epoch := newEpoch()
	for n := range messages {
		m := &nats.Msg{Subject: stream.EventSubject("request", "gw-2"), Data: body, Header: nats.Header{
			"Nats-Msg-Id":  {stream.Identity{Source: "gw-2", Epoch: epoch, First: uint64(n + 1), Last: uint64(n + 1)}.String()},
			"Content-Type": {contentType},
		}}
		_, err := js.PublishMsgAsync(m)
		for errors.Is(err, jetstream.ErrTooManyStalledMsgs) { // it waits for 200 ms
			_, err = js.PublishMsgAsync(m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}
