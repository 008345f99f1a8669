package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
)

func sendOne(t *testing.T, n Notifier, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := n.Send(ctx, []Notice{{Alert: firing("a1"), Repeat: 2, Now: time.Now()}})
	return err
}

func TestWebhook_PostsTheAlertSigned(t *testing.T) {
	t.Parallel()
	re := newReceiver(t, nil)
	w := hook("hook", re.url).Notifier
	if err := sendOne(t, w, time.Minute); err != nil {
		t.Fatal(err)
	}
	got := re.all()[0]
	var a alert.Alert
	if err := json.Unmarshal(got.body, &a); err != nil || a.ID != "a1" || !reflect.DeepEqual(a.Key, firing("a1").Key) {
		t.Errorf("the body is %s, %v", got.body, err)
	}
	if got.header.Get(AlertHeader) != "a1" || got.header.Get(RepeatHeader) != "2" || got.header.Get("Content-Type") != "application/json" || got.header.Get(TestHeader) != "" {
		t.Errorf("the header is %v", got.header)
	}
	now := time.Now()
	if err := Verify(testSecret, got.header, got.body, now, 5*time.Minute); err != nil {
		t.Errorf("the signature is not accepted: %v", err)
	}
	for name, err := range map[string]error{
		"another body":   Verify(testSecret, got.header, append(got.body, ' '), now, 5*time.Minute),
		"another secret": Verify(NewSecret("0123456789abcdeF"), got.header, got.body, now, 5*time.Minute),
		"no secret":      Verify(Secret{}, got.header, got.body, now, 5*time.Minute),
		"an hour later":  Verify(testSecret, got.header, got.body, now.Add(time.Hour), 5*time.Minute),
		"an hour before": Verify(testSecret, got.header, got.body, now.Add(-time.Hour), 5*time.Minute),
		"no header":      Verify(testSecret, http.Header{}, got.body, now, 5*time.Minute),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	later := got.header.Clone()
	later.Set(TimestampHeader, fmt.Sprint(now.Add(time.Hour).Unix()))
	if Verify(testSecret, later, got.body, now.Add(time.Hour), 5*time.Minute) == nil {
		t.Error("accepted with another timestamp")
	}
}

// What other languages are told to compute, docs/notifications.md.
func TestSign_IsTheHMACOfTimestampPointAndBody(t *testing.T) {
	t.Parallel()
	// printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
	const want = "v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e"
	if got := sign(testSecret, "1700000000", []byte("{}")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWebhook_OnlyAnAnswerOf2xxIsAcceptance(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		200: "accepted", 201: "accepted", 204: "accepted", 299: "accepted",
		301: "receiver", 302: "receiver", 307: "receiver", 308: "receiver", 304: "receiver",
		400: "refused", 409: "refused", 413: "refused", 422: "refused",
		401: "receiver", 403: "receiver", 404: "receiver", 408: "receiver", 410: "receiver", 429: "receiver",
		500: "receiver", 502: "receiver", 503: "receiver", 599: "receiver",
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			elsewhere := newReceiver(t, nil)
			re := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.url)
				w.WriteHeader(code)
				_, _ = w.Write([]byte("what\nthe receiver says"))
			})
			err := sendOne(t, hook("hook", re.url).Notifier, time.Minute)
			got := "receiver"
			switch {
			case err == nil:
				got = "accepted"
			case Refused(err):
				got = "refused"
			}
			if got != want || len(re.all()) != 1 {
				t.Errorf("%d requests, the answer means %s, %v; want %s", len(re.all()), got, err, want)
			}
			if len(elsewhere.all()) != 0 {
				t.Error("a redirect is followed")
			}
			if code >= 400 && !strings.Contains(fmt.Sprint(err), "what the receiver says") {
				t.Errorf("the error does not show the answer: %v", err)
			}
		})
	}
}

func TestWebhook_DoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	for name, answer := range map[string]func(w http.ResponseWriter){
		"no answer": func(http.ResponseWriter) { <-hang },
		"an answer without end": func(w http.ResponseWriter) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"a header without end": func(w http.ResponseWriter) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			w.WriteHeader(http.StatusOK)
		},
		"half an answer": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			<-hang
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w) }))
			defer server.CloseClientConnections()
			// It returns: with an answer of 200, of which not all is read, without an error.
			if err := sendOne(t, hook("hook", server.URL).Notifier, 300*time.Millisecond); err == nil && name != "an answer without end" {
				t.Error("accepted")
			}
		})
	}
	t.Cleanup(func() { close(hang) })
}

func TestWebhook_ErrorsShowNeitherPathNorSecret(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	here := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for _, url := range []string{gone.URL, here.url, "http://no-such-host.invalid", "http://10.1.2.3", "https" + strings.TrimPrefix(here.url, "http")} {
		w := NewWebhook(WebhookConfig{URL: NewSecret(url + "/T0PSECRET?key=T0PSECRET"), Secret: NewSecret("T0PSECRET-and-more"), Allow: thisMachine()})
		err := sendOne(t, w, 10*time.Second)
		if err == nil || strings.Contains(err.Error(), "T0PSECRET") {
			t.Errorf("%s: %v", url, err)
		}
		if text := fmt.Sprintf("%v %+v %#v %s %x %+v", w.secret, w.secret, w.secret, w.secret, w.secret, *w); strings.Contains(text, "T0P") {
			t.Errorf("printed as %s", text)
		}
	}
}
