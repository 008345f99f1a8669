package query_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/store"
)

// following is an API over a database whose alerts clients follow.
type following struct {
	t   *testing.T
	url string
	db  *store.DB
	raw *sql.DB
}

func newFollowing(t *testing.T, change func(*query.Server, *http.Server)) *following {
	t.Helper()
	db, raw := database(t)
	s := query.Server{
		Catalog: &definition.Catalog{Rules: []*alert.Rule{{Name: "slow"}, {Name: "rare"}}}, DB: db,
		Follow:  query.FollowLimits{Poll: 5 * time.Millisecond},
		OnError: func(request string, err error) { t.Errorf("%s: %v", request, err) },
	}
	server := httptest.NewUnstartedServer(nil)
	if change != nil {
		change(&s, server.Config)
	}
	server.Config.Handler = query.NewHandler(s)
	server.Start()
	t.Cleanup(server.CloseClientConnections)
	return &following{t, server.URL + "/api/v1/alerts/stream", db, raw}
}

// add records alerts in one transaction.
func (f *following) add(rule string, ids ...string) {
	f.t.Helper()
	var alerts []alert.Alert
	for _, id := range ids {
		alerts = append(alerts, alert.Alert{
			ID: id, Rule: rule, Scope: alert.ScopeLocal, State: alert.Firing, Severity: 2, Key: map[string]string{"apiName": "<Söhne> & " + id},
			FiredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		})
	}
	if err := f.db.InTx(f.t.Context(), func(tx *store.Tx) error { return tx.WriteAlerts(f.t.Context(), alerts) }); err != nil {
		f.t.Error(err)
	}
}

// client is one that follows.
type client struct {
	t      *testing.T
	body   io.ReadCloser
	lines  *bufio.Reader
	cancel context.CancelFunc
	lastID string
}

// connect follows from the event with an id on; "" is from now on.
func (f *following) connect(parameters, lastID string) *client {
	f.t.Helper()
	c, status := f.tryConnect(parameters, lastID)
	if status != http.StatusOK {
		f.t.Fatalf("got status %d", status)
	}
	return c
}

func (f *following) tryConnect(parameters, lastID string) (*client, int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	f.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"?"+parameters, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode == http.StatusOK && response.Header.Get("Content-Type") != "text/event-stream" {
		f.t.Errorf("got content type %s", response.Header.Get("Content-Type"))
	}
	return &client{f.t, response.Body, bufio.NewReader(response.Body), cancel, lastID}, response.StatusCode
}

// block reads up to the next empty line: fields by name, comments by "".
func (c *client) block() (map[string]string, error) {
	fields := map[string]string{}
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return fields, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if _, twice := fields[name]; twice || !ok {
			c.t.Errorf("a block with the line %q", line)
		}
		if fields[name] = strings.TrimPrefix(value, " "); name == "id" {
			c.lastID = fields[name]
		}
	}
}

// next is the next alert.
func (c *client) next() alert.Alert {
	c.t.Helper()
	for {
		fields, err := c.block()
		if err != nil {
			c.t.Fatal(err)
		}
		if data, ok := fields["data"]; ok {
			a, err := alert.Decode([]byte(data))
			if err != nil {
				c.t.Fatal(err)
			}
			return a
		}
	}
}

func TestFollow_SendsWhatComesFromNowOn(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, nil)
	f.add("slow", "before")
	c := f.connect("", "")
	f.add("slow", "a", "b")
	f.add("slow", "c")
	for i, want := range []string{"a", "b", "c"} {
		if got := c.next(); got.ID != want || c.lastID != strconv.Itoa(i+2) || got.Key["apiName"] != "<Söhne> & "+want {
			t.Errorf("got %+v with id %s, want %s with %d", got, c.lastID, want, i+2)
		}
	}
	for parameters, want := range map[string]string{
		"after=0": "before", "after=1": "a", "rule=slow&after=2": "b", "scope=local&severity=2&after=0": "before",
		"key=apiName=%3CS%C3%B6hne%3E+%26+c&after=0": "c",
	} {
		if got := f.connect(parameters, "").next(); got.ID != want {
			t.Errorf("%s: got %s first, want %s", parameters, got.ID, want)
		}
	}
	if got := f.connect("after=0", "3").next(); got.ID != "c" {
		t.Errorf("Last-Event-ID beside after: got %s, want what comes after the former", got.ID)
	}
	beyond := f.connect("after=99999", "") // of a database that was restored
	f.add("slow", "d")
	if got := beyond.next(); got.ID != "d" {
		t.Errorf("from beyond all there is: got %s, want the next one", got.ID)
	}
}

func TestFollow_SendsAHistoryOfManyPages(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, nil)
	const many = 101
	for i := range many {
		f.add(map[bool]string{true: "rare", false: "slow"}[i%2 == 0], fmt.Sprint(i))
	}
	c, rare := f.connect("after=0", ""), f.connect("after=0&rule=rare", "")
	for i := range many {
		if got := c.next(); got.ID != fmt.Sprint(i) || c.lastID != strconv.Itoa(i+1) {
			t.Fatalf("got %s with id %s, want %d", got.ID, c.lastID, i)
		}
		if i%2 == 0 {
			if got := rare.next(); got.ID != fmt.Sprint(i) || rare.lastID != strconv.Itoa(i+1) {
				t.Fatalf("of one rule: got %s with id %s, want %d", got.ID, rare.lastID, i)
			}
		}
	}
}

// What is not chosen is passed over once, and not looked through again by who
// connects again.
func TestFollow_TellsHowFarItHasLookedThrough(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, func(s *query.Server, _ *http.Server) { s.Follow.Beat = 20 * time.Millisecond })
	c := f.connect("rule=rare", "")
	f.add("slow", "a", "b", "c")
	for c.lastID != "3" {
		fields, err := c.block()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := fields["data"]; ok {
			t.Fatalf("got %v", fields)
		}
	}
	f.add("rare", "d")
	if got := c.next(); got.ID != "d" || c.lastID != "4" {
		t.Errorf("got %s with id %s", got.ID, c.lastID)
	}
}

// Clients that lose their connection again and again while several transactions
// write, commit in any order or do not, have every alert once.
func TestFollow_GoesOnWhereItEndedAmongConcurrentWriters(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, func(s *query.Server, _ *http.Server) { s.OnError = nil }) // clients go while Postgres is asked
	const writers, each, clients = 4, 30, 4
	refused := errors.New("rolled back by the test")
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := range each {
				err := f.db.InTx(t.Context(), func(tx *store.Tx) error {
					a := alert.Alert{
						ID: fmt.Sprintf("w%d-%d", w, n), Rule: "slow", Scope: alert.ScopeLocal, State: alert.Firing, Severity: 2, Key: map[string]string{}, FiredAt: time.Unix(1, 0),
					}
					if err := tx.WriteAlerts(t.Context(), []alert.Alert{a}); err != nil {
						return err
					}
					select { // others commit meanwhile
					case <-t.Context().Done():
					case <-time.After(rand.N(10 * time.Millisecond)):
					}
					if n%3 == 2 {
						return refused
					}
					return nil
				})
				if err != nil && !errors.Is(err, refused) {
					t.Error(err)
				}
			}
		})
	}
	const want = writers * each * 2 / 3
	for range clients {
		reading.Go(func() {
			seen, lastID := alert.NewSeen(2*want), "0"
			for n := 0; n < want; {
				c, status := f.tryConnect("", lastID)
				if status != http.StatusOK {
					t.Errorf("got status %d", status)
					return
				}
				for range min(1+rand.N(7), want-n) {
					a := c.next()
					if !seen.Add(a.ID) {
						t.Errorf("%s came twice, with id %s", a.ID, c.lastID)
					}
					n++
				}
				lastID = c.lastID // what has come since, and was not read, comes again
				c.cancel()
			}
			if lastID != strconv.Itoa(want) {
				t.Errorf("the last id is %s, want %d", lastID, want)
			}
		})
	}
	writing.Wait()
	reading.Wait()
}

// stacks is how many goroutines serve followers.
func stacks(t *testing.T) int {
	t.Helper()
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
		t.Fatal(err)
	}
	return strings.Count(all.String(), "query.(*follower).run(")
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("waited too long for " + what)
		case <-tick.C:
		}
	}
}

// It counts goroutines of this process, and so runs alone.
func TestFollow_LeavesNothingBehindWhenAClientGoes(t *testing.T) { //nolint:paralleltest // see above
	f := newFollowing(t, func(s *query.Server, _ *http.Server) { s.Follow.Clients, s.OnError = 8, nil })
	for round := range 3 { // more in all than there is room for at a time
		var clients []*client
		for range 8 {
			clients = append(clients, f.connect("", ""))
		}
		if n := stacks(t); n != 8 {
			t.Errorf("round %d: %d goroutines serve 8 clients", round, n)
		}
		if _, status := f.tryConnect("", ""); status != http.StatusServiceUnavailable {
			t.Errorf("one more: got status %d, want 503", status)
		}
		for _, c := range clients {
			c.cancel()
		}
		until(t, "the clients to be gone", func() bool { return stacks(t) == 0 })
	}
	if c := f.connect("", ""); c.lastID != "" {
		t.Errorf("got id %s before anything was read", c.lastID)
	}
}

func TestFollow_EndsInGoodOrderWhenTheServerStops(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	f := newFollowing(t, func(s *query.Server, _ *http.Server) { s.Done = stop })
	c := f.connect("", "")
	f.add("slow", "a")
	if got := c.next(); got.ID != "a" {
		t.Errorf("got %s", got.ID)
	}
	close(stop)
	if _, err := c.block(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the end of the stream", err)
	}
}

// The limits of a server are for requests that end.
func TestFollow_OutlivesTheTimeLimitsOfTheServer(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, func(s *query.Server, h *http.Server) {
		h.ReadTimeout, h.WriteTimeout, s.Follow.Beat = 50*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
	})
	c := f.connect("", "")
	for range 10 { // 200 ms
		if fields, err := c.block(); err != nil {
			t.Fatalf("%v: %v", fields, err)
		}
	}
	f.add("slow", "a")
	if got := c.next(); got.ID != "a" {
		t.Errorf("got %s", got.ID)
	}
}

// Who does not take what is sent is left. 30 MB are more than the sockets on the way hold.
func TestFollow_LeavesAClientThatDoesNotTakeWhatIsSent(t *testing.T) { //nolint:paralleltest // it counts goroutines
	f := newFollowing(t, func(s *query.Server, _ *http.Server) { s.Follow.Write = 100 * time.Millisecond })
	exec(t, f.raw, `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id)
		SELECT 'id' || i, 'slow', '', 'local', 'firing', '{}', 2, repeat('x', 100000), i, 1, '2026-01-01Z', 'w1' FROM generate_series(1, 300) i`)
	c := f.connect("after=0", "")
	until(t, "the server to send", func() bool { return stacks(t) == 1 })
	until(t, "the server to leave the client", func() bool { return stacks(t) == 0 })
	if n, err := io.Copy(io.Discard, c.body); err == nil || n > 29_000_000 {
		t.Errorf("got %d bytes and error %v, want a stream that is broken off", n, err)
	}
}
