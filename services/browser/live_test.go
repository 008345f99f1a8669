package browser

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"weir/pkg/badinput"
)

// What is published while somebody looks arrives on the page by itself, through one stream.
func TestLive_ShowsWhatIsPublished(t *testing.T) {
	t.Parallel()
	s := weir(t)
	b := open(t, s, "/")
	b.until("the page to follow", `!document.getElementById("pulse").hidden`)
	const api = "live-shop"
	event := func(more map[string]any) map[string]any {
		e := map[string]any{"apiName": api, "apiVersion": "v9", "apiContext": "/live/v9", "apiMethod": "GET", "apiResourceTemplate": "/x", "applicationId": "7"}
		for name, value := range more {
			e[name] = value
		}
		return e
	}
	now := time.Now().UnixMilli()
	s.publish(t, "gw-live", "request", event(map[string]any{"requestTimestamp": now, "responseCode": 200, "responseTime": 40}),
		event(map[string]any{"requestTimestamp": now, "responseCode": 200, "responseTime": 6000}), event(map[string]any{"requestTimestamp": now, "responseCode": 503, "responseTime": 80}))
	s.publish(t, "gw-live", "fault", event(map[string]any{"requestTimestamp": now, "errorCode": "101503"}))
	s.publish(t, "gw-live", "throttle", event(map[string]any{"throttledOutTimestamp": now}), event(map[string]any{"throttledOutTimestamp": now}))
	b.until("the API to be among the busiest", `[...document.querySelectorAll("#top tbody tr")].some(row => row.cells[0].textContent === "live-shop" && row.innerText.includes("6"))`)
	// Six calls, of them one 5xx and one fault; two were throttled out.
	b.until("its numbers", `[...document.querySelectorAll("#top tbody tr")].some(row => row.cells[0].textContent === "live-shop" &&
		[...row.cells].map(cell => cell.textContent).filter(text => text).join(" ") === "live-shop v9 6 33.33 2")`)
	b.until("the slow call's alert", `[...document.querySelectorAll("#feed li")].some(item => item.textContent.includes("abnormal-response-time") && item.textContent.includes("live-shop"))`)
	through := b.text("#fresh time")
	b.until("the badge to go on", `document.querySelector("#fresh time").textContent !== `+quote(through))
	b.accessible("the page while it follows")
	b.mu.Lock()
	streams := b.streams
	b.mu.Unlock()
	if streams != 1 {
		t.Errorf("the page has opened %d streams, want 1", streams)
	}

	b.click("#feed a")
	b.until("the alert's page", `location.pathname === "/alerts" && document.readyState === "complete"`)
	b.accessible("an alert")
	silenceAndEnd(t, b)
}

// silenceAndEnd silences the alert that is shown, and ends that again.
func silenceAndEnd(t *testing.T, b *tab) {
	t.Helper()
	b.run(
		chromedp.Click(chromedp.CSS("#one .act summary")),
		chromedp.SendKeys(chromedp.CSS(`#one form[action="/alerts/silence"] input[name="by"]`), "ops"),
		chromedp.SendKeys(chromedp.CSS(`#one form[action="/alerts/silence"] input[name="comment"]`), "<b>load</b> test"),
	)
	b.click(`#one form[action="/alerts/silence"] button`)
	b.until("the silence", `document.readyState === "complete" && document.querySelector("#silences .silence")?.innerText.includes("<b>load</b> test")`)
	b.click("#silences .silence button")
	b.until("its end", `document.readyState === "complete" && document.querySelector("#silences") && !document.querySelector("#silences .silence")`)
	b.run(chromedp.Click(chromedp.CSS("#one .act summary")), chromedp.SendKeys(chromedp.CSS(`#one form[action="/alerts/ack"] input[name="by"]`), "ops"))
	b.click(`#one form[action="/alerts/ack"] button`)
	b.until("the acknowledgement", `document.readyState === "complete" && document.querySelector("#one .tag")?.innerText.includes("ops looks after it")`)
}

// Pages of other sites, and programs that do as if they were none, write nothing.
func TestForms_AreForOwnPagesOnly(t *testing.T) {
	t.Parallel()
	s := weir(t)
	for name, headers := range map[string]map[string]string{
		"another site": {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, "no page": {}, "another port": {"Origin": "http://127.0.0.1:1"},
	} {
		body := url.Values{"rule": {"tier-crossing"}, "for": {"1h"}, "by": {"eve"}, "comment": {"x"}}.Encode()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.HTTPURL+"/alerts/silence", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for header, value := range headers {
			request.Header.Set(header, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // nothing is read from it
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", name, response.StatusCode)
		}
	}
	silences, err := s.DB.Silences(t.Context(), time.Now(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, silence := range silences {
		if silence.By == "eve" {
			t.Errorf("there is a silence %+v", silence)
		}
	}
}

// Whatever strangers call their APIs and themselves is text on every page.
func TestHostileNames_ExecuteNothing(t *testing.T) {
	t.Parallel()
	s := weir(t)
	cases, err := badinput.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for i, m := range c.Messages {
			if len(m.Body) < 100_000 && strings.HasPrefix(m.Subject, "events.request.") && m.Headers == nil && !m.Fate.Refused {
				s.publishRaw(t, m.Subject, c.Name+string(rune('0'+i)), m.Body)
			}
		}
	}
	const hostile = `"><img src=x onerror=alert(1)><script>alert(2)</script>{{.}}${alert(3)}`
	var events []any
	for range 50 { // among the first of every table
		events = append(events, map[string]any{
			"requestTimestamp": badinput.Time, "apiName": hostile, "apiVersion": hostile, "apiContext": hostile, "apiResourceTemplate": hostile, "apiMethod": hostile,
			"applicationId": hostile, "applicationName": "javascript:alert(4)", "username": hostile, "userAgent": hostile, "destination": "javascript:alert(5)",
			"responseCode": 500, "responseTime": 9000,
		})
	}
	s.publish(t, "gw-hostile", "request", events...)
	b := open(t, s, "/")
	const day = "from=2024-05-17&to=2024-05-18"
	for _, path := range []string{"/apis", "/apis/one", "/applications", "/errors", "/latency", "/throttling", "/devices", "/alerts", "/pipeline"} {
		b.visit(path + "?" + day + "&" + url.Values{"api": {hostile}}.Encode())
		b.visit(path + "?" + day)
	}
	b.visit("/apis?" + day)
	if !strings.Contains(strings.Join(b.texts("#apis tbody th"), "\n"), hostile) {
		t.Errorf("the API is not there to the letter: %q", b.texts("#apis tbody th"))
	}
	if n := eval[int](b, `document.querySelectorAll("main img, main script:not([src]), main iframe, main a[href^='javascript:']").length`); n > 0 {
		t.Errorf("there are %d elements that strangers have made", n)
	}
	for _, bad := range []string{"/apis?per=%00", "/apis?from=x&to=y", "/apis?sort.apis=%22%3E", "/alerts?rule=%3Cscript%3E", "/alerts?id=%3Cscript%3E&before=1"} {
		b.allow("status of 400")
		b.visit(bad)
	}
}
