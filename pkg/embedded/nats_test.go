package embedded

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func startNATS(t *testing.T, cfg NATSConfig) *NATS {
	t.Helper()
	n, err := StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func connectJetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestNATS_KeepsMessagesOverRestartOnTheSameAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, syncAlways := range []bool{false, true} {
		first := startNATS(t, NATSConfig{Dir: dir, SyncAlways: syncAlways})
		js := connectJetStream(t, first.URL())
		if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}}); err != nil {
			t.Fatal(err)
		}
		before, err := js.Publish(t.Context(), "kept", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		first.Close()

		addr := strings.TrimPrefix(first.URL(), "nats://")
		second := startNATS(t, NATSConfig{Dir: dir, Listen: addr, SyncAlways: syncAlways})
		if second.URL() != first.URL() {
			t.Errorf("URL after restart = %s, want %s", second.URL(), first.URL())
		}
		after, err := connectJetStream(t, second.URL()).Publish(t.Context(), "kept", []byte("y"))
		if err != nil {
			t.Fatal(err)
		}
		if after.Sequence != before.Sequence+1 {
			t.Errorf("sequence after restart = %d, want %d", after.Sequence, before.Sequence+1)
		}
		second.Close()
	}
}

func TestNATS_TakesMessagesUpToMaxPayload(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(startNATS(t, NATSConfig{Dir: t.TempDir()}).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got := nc.MaxPayload(); got != MaxPayload {
		t.Errorf("max payload = %d, want %d", got, MaxPayload)
	}
}

func TestNATS_RefusesTakenPortAndSaysWhich(t *testing.T) {
	t.Parallel()
	addr := takePort(t)
	begun := time.Now()
	n, err := StartNATS(NATSConfig{Dir: t.TempDir(), Listen: addr})
	if err == nil {
		n.Close()
		t.Fatal("no error for a taken port")
	}
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) {
		t.Errorf("error = %q, want one that names %s as in use", err, addr)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s to notice", took)
	}
}

func TestNATS_RefusesMissingDirAndBadAddress(t *testing.T) {
	t.Parallel()
	for _, cfg := range []NATSConfig{{}, {Dir: t.TempDir(), Listen: "4222"}, {Dir: t.TempDir(), Listen: "127.0.0.1:nats"}} {
		if n, err := StartNATS(cfg); err == nil {
			n.Close()
			t.Errorf("StartNATS(%+v) = no error", cfg)
		}
	}
}

// takePort listens on a free port of loopback until the test ends.
func takePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
