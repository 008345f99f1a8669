package embedded

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// freeListen is an address that was free a moment ago.
func freeListen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// untilAnswered repeats what servers refuse while they look for a leader.
func untilAnswered(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		once, done := context.WithTimeout(limit, 2*time.Second)
		err := f(once)
		done()
		if err == nil {
			return
		}
		if limit.Err() != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestNATS_ClusterKeepsWhatItAcknowledgedWithoutItsLeader(t *testing.T) {
	t.Parallel()
	routes := []string{freeListen(t), freeListen(t), freeListen(t)}
	servers := map[string]*NATS{}
	var urls []string
	dir := t.TempDir()
	for i, listen := range routes {
		name := fmt.Sprintf("n%d", i)
		others := []string{routes[(i+1)%3], routes[(i+2)%3]}
		servers[name] = startNATS(t, NATSConfig{
			Dir: filepath.Join(dir, name), ServerName: name,
			Cluster: &NATSCluster{Name: "test", Listen: listen, Routes: others},
		})
		urls = append(urls, servers[name].URL())
	}
	js := connectJetStream(t, strings.Join(urls, ","))
	untilAnswered(t, "make a stream on three servers", func(ctx context.Context) error {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
		return err
	})
	for range 10 {
		if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	servers[leader].Close()
	untilAnswered(t, "publish without "+leader, func(ctx context.Context) error {
		_, err := js.Publish(ctx, "s", []byte("y"), jetstream.WithMsgID("y"))
		return err
	})
	info, err := s.Info(t.Context())
	if err != nil || info.State.Msgs != 11 || info.Cluster.Leader == leader {
		t.Errorf("after the leader %s is gone: %+v, %v; want 11 messages and another leader", leader, info, err)
	}
}

func TestNATS_RefusesAClusterThatOthersCannotFind(t *testing.T) {
	t.Parallel()
	for _, cluster := range []NATSCluster{{Listen: "127.0.0.1:1"}, {Name: "x"}, {Name: "x", Listen: "127.0.0.1:0"}} {
		if _, err := StartNATS(NATSConfig{Dir: t.TempDir(), Cluster: &cluster}); err == nil {
			t.Errorf("%+v: no error", cluster)
		}
	}
}
