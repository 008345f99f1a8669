package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/local"
	"weir/services/wire"
)

// The real log, in the folder beside the repository: combined format, four days, 558 user agents.
const realLog = "../../../shared/data/elastic-apache/apache_logs.gz"

// logRange is the address's part for the days of the log.
const logRange = "from=2015-05-17&to=2015-05-21"

// oracle holds the true numbers of the log, computed by another program.
type oracle struct {
	Records   int64            `json:"records"`
	PerDay    map[string]int64 `json:"per_day_utc"`
	PerHour   map[string]int64 `json:"per_hour_utc"`
	PerStatus map[string]int64 `json:"per_status"`
	PerClass  map[string]int64 `json:"per_status_class"`
	PerMethod map[string]int64 `json:"per_method"`
}

// site is a running Weir that has folded the log.
type site struct {
	*local.Instance

	want oracle
	dir  string
}

// shared is the one that all tests look at.
var shared sharedSite

type sharedSite struct {
	once sync.Once
	site *site
	err  error
}

// weir returns the instance, which the first test that asks starts.
func weir(t *testing.T) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED, NOTHING IS SHOWN: this test needs Chromium and Postgres; run without -short")
	}
	shared.once.Do(func() { shared.site, shared.err = startSite() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.site
}

func (s *sharedSite) stop() error {
	if s.site == nil {
		return nil
	}
	return errors.Join(s.site.Close(), os.RemoveAll(s.site.dir))
}

// startSite starts all of Weir in this process, and replays the log.
func startSite() (s *site, err error) {
	s = &site{}
	text, err := os.ReadFile(realLog + ".oracle.json")
	if err != nil {
		return nil, fmt.Errorf("the real logs are not beside the repository: %w", err)
	}
	if err := json.Unmarshal(text, &s.want); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "weir-browser-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	if err := os.Chmod(s.dir, 0o755); err != nil { // Postgres may run as another user
		return nil, err
	}
	cfg := config.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	catalog, err := wire.CatalogWith(cfg, definition.Options{KeepAll: true}) // the log is old
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s.Instance, err = local.Start(ctx, local.Options{Dir: s.dir + "/data", Workers: 2, Catalog: catalog, Settings: cfg, Plan: io.Discard, Log: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	if err := s.replay(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *site) replay(ctx context.Context) error {
	log, err := gateway.OpenLog(ctx, realLog, nil, gateway.Combined)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := gateway.Replay(ctx, s.Conn, log, gateway.ReplayConfig{}); err != nil {
		return err
	}
	return s.drain(ctx)
}

// drain waits until everything that the stream holds now is folded.
func (s *site) drain(ctx context.Context) error {
	now := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := s.Conn.State(ctx)
		if err == nil && state.CompleteThrough.After(now) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case err := <-s.Failed():
			return err
		case <-tick.C:
		}
	}
}

// publish publishes events of a type, each a JSON object, and waits until they are folded.
func (s *site) publish(t *testing.T, source, eventType string, events ...any) {
	t.Helper()
	p, err := gateway.NewPublisher(s.Conn, gateway.PublisherConfig{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := p.PublishJSON(t.Context(), eventType, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.Close(t.Context()), s.drain(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// publishRaw publishes a message as it is; one that the server refuses is none.
func (s *site) publishRaw(t *testing.T, subject, id string, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // it would be tried again for ever
	defer cancel()
	_, _, err := s.Conn.Publish(ctx, stream.Outgoing{Subject: subject, MsgID: id, Data: body})
	if err != nil {
		t.Logf("%s: %v", id, err)
	}
}
