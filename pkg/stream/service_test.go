package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
)

// serve runs a service until the returned function is called, which returns
// what Serve did.
func serve(t *testing.T, conn *Conn, service Service) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- conn.Serve(ctx, service) }()
	stop = func() error {
		cancel()
		return <-done
	}
	t.Cleanup(cancel)
	for {
		info, err := conn.Request(testContext(t), "$SRV.INFO."+service.Name, nil)
		if err != nil && !errors.Is(err, ErrNobodyAnswers) {
			t.Fatal(err)
		}
		if strings.Contains(string(info), service.Endpoints[0].Subject) {
			return stop
		}
	}
}

func echo(subject string, answer func(ctx context.Context, request []byte) ([]byte, error)) Service {
	return Service{Name: "weir-test", Version: "1.2.3", Description: "for a test", Endpoints: []Endpoint{{Name: "echo", Subject: subject, Answer: answer}}}
}

func TestServe_AnswersAndIsDiscovered(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	server, asker := connect(t, url), connect(t, url)
	stop := serve(t, server, echo("weir.test", func(_ context.Context, request []byte) ([]byte, error) {
		switch string(request) {
		case "refuse":
			return nil, &Refusal{Code: 404, Detail: "there is none: look elsewhere", Body: []byte(`{"status":404}`)}
		case "fail":
			return nil, errors.New("secret of the server")
		case "panic":
			panic("at once")
		}
		return append([]byte("you said "), request...), nil
	}))
	ask := func(request string) string {
		answer, err := asker.Request(testContext(t), "weir.test", []byte(request))
		var refusal *Refusal
		if errors.As(err, &refusal) {
			return fmt.Sprintf("%d %s %s", refusal.Code, refusal.Detail, refusal.Body)
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	for request, want := range map[string]string{
		"hello": "you said hello", "": "you said ", "refuse": `404 there is none: look elsewhere {"status":404}`,
		"fail": "500 something went wrong here; the log of the server says what ", "panic": "500 something went wrong here; the log of the server says what ",
	} {
		if got := ask(request); got != want {
			t.Errorf("%q: got %q, want %q", request, got, want)
		}
	}
	info, err := asker.Request(testContext(t), "$SRV.INFO.weir-test", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"weir-test"`, `"version":"1.2.3"`, `"subject":"weir.test"`, `"queue_group":"weir-test"`} {
		if !strings.Contains(string(info), want) {
			t.Errorf("got %s, want %s in it", info, want)
		}
	}
	var stats struct {
		Endpoints []struct {
			Data struct{ Answered, Refused int64 }
		}
	}
	text, err := asker.Request(testContext(t), "$SRV.STATS.weir-test", nil)
	if err != nil || json.Unmarshal(text, &stats) != nil || len(stats.Endpoints) != 1 || stats.Endpoints[0].Data.Answered != 2 || stats.Endpoints[0].Data.Refused != 3 {
		t.Errorf("got statistics %s, %v, want 2 answered and 3 refused", text, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := asker.Request(testContext(t), "weir.test", nil); !errors.Is(err, ErrNobodyAnswers) {
		t.Errorf("after the end: got %v, want that nobody answers", err)
	}
	server.Close()
	if err := server.Serve(testContext(t), echo("weir.test", nil)); err == nil {
		t.Error("a closed connection serves")
	}
}

func TestServe_BoundsWhatIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	server, asker := connect(t, url), connect(t, url)
	var at, most atomic.Int64
	entered, release := make(chan struct{}, 100), make(chan struct{})
	service := echo("weir.bound", func(context.Context, []byte) ([]byte, error) {
		most.Store(max(most.Load(), at.Add(1)))
		entered <- struct{}{}
		<-release
		at.Add(-1)
		return nil, nil
	})
	service.Parallel = 3
	serve(t, server, service)
	done := make(chan error, 10)
	for range cap(done) {
		go func() {
			_, err := asker.Request(testContext(t), "weir.bound", nil)
			done <- err
		}()
	}
	for range 3 {
		<-entered
	}
	select {
	case <-entered:
		t.Error("a fourth request was taken on beside three")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 3 {
		t.Errorf("%d were answered at once, want at most 3", most.Load())
	}
}

func TestServe_GivesUpAfterItsTimeAndFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	server, asker := connect(t, url), connect(t, url)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	service := echo("weir.slow", func(ctx context.Context, request []byte) ([]byte, error) {
		switch string(request) {
		case "wait":
			<-ctx.Done()
			return nil, &Refusal{Code: 504, Detail: ctx.Err().Error()}
		case "nothing":
			return nil, nil
		}
		entered <- struct{}{}
		<-release
		return []byte("done"), ctx.Err()
	})
	service.Timeout = 20 * time.Millisecond
	stop := serve(t, server, service)
	if _, err := asker.Request(testContext(t), "weir.slow", []byte("wait")); err == nil || err.Error() != "context deadline exceeded" {
		t.Errorf("got %v, want that the time is over", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	service.Timeout = time.Minute
	stop = serve(t, server, service)
	answers, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		answer, err := asker.Request(testContext(t), "weir.slow", nil)
		answers <- fmt.Sprint(string(answer), err)
	}()
	<-entered
	go func() { ended <- stop() }()
	for { // until it is not taken on any more
		if _, err := asker.Request(testContext(t), "weir.slow", []byte("nothing")); errors.Is(err, ErrNobodyAnswers) {
			break
		}
	}
	select {
	case err := <-ended:
		t.Errorf("it ended with %v before what was in hand", err)
	default:
	}
	close(release)
	if got := <-answers; got != "done<nil>" {
		t.Errorf("got %s, want the answer that was in hand", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServe_SharesRequestsBetweenReplicas(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	asker := connect(t, url)
	var served [2]atomic.Int64
	for i := range served {
		serve(t, connect(t, url), echo("weir.shared", func(context.Context, []byte) ([]byte, error) {
			served[i].Add(1)
			return nil, nil
		}))
	}
	asked := int64(0)
	for ctx := testContext(t); served[0].Load() == 0 || served[1].Load() == 0; asked++ {
		if _, err := asker.Request(ctx, "weir.shared", nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := served[0].Load() + served[1].Load(); got != asked {
		t.Errorf("%d requests were answered %d times, want each by one of the two", asked, got)
	}
}
