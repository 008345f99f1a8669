package httpserver

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestServe_FinishesRequestsInHand(t *testing.T) {
	t.Parallel()
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "done")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, handler) }()
	body := make(chan string, 1)
	go func() {
		response, err := http.Get(URL(listener))
		if err != nil {
			body <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		data, _ := io.ReadAll(response.Body)
		body <- string(data)
	}()
	<-arrived
	cancel()
	select {
	case err := <-ended:
		t.Errorf("Serve returned %v while a request was in hand", err)
	default:
	}
	close(release)
	if got := <-body; got != "done" {
		t.Errorf("got %q, want the answer of the request in hand", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve() = %v, want nil", err)
	}
}

func TestURL_CanBeOpenedAlsoWhereEveryInterfaceIsListenedOn(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", ":0", "0.0.0.0:0"} {
		listener, err := Listen(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		if got := URL(listener); !strings.HasPrefix(got, "http://127.0.0.1:") {
			t.Errorf("%s: got %s, want an address of this machine", address, got)
		}
	}
}

func TestListen_NamesTheAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	first, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	if _, err := Listen(t.Context(), first.Addr().String()); err == nil || !strings.Contains(err.Error(), first.Addr().String()) {
		t.Errorf("got %v, want an error with %s", err, first.Addr())
	}
}
