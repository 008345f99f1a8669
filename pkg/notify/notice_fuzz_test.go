package notify

import (
	"bytes"
	"encoding/json"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode"

	"weir/pkg/alert"
	"weir/pkg/badinput"
)

// Whatever an alert holds, a mail of it has the headers that it should, and
// Alertmanager gets names that it takes.
func FuzzNotice(f *testing.F) {
	f.Add([]byte(`{"id":"x","firing_id":"y","rule":"r","scope":"local","state":"resolved","key":{"a b":"c\r\nBcc: d"},"severity":1,"message":"m\r\nBcc: a@b.c","fired_at":"2026-11-22T10:00:00Z"}`))
	f.Add([]byte(`{"message":"=?utf-8?q?=0D=0A?=","labels":{"":"x","9":"\u0000"},"resolved_at":"0001-01-01T00:00:00Z","fired_at":"9999-12-31T23:59:59Z"}`))
	if err := badinput.Seeds(func(m badinput.Message) { f.Add(m.Body) }); err != nil {
		f.Fatal(err)
	}
	am := NewAlertmanager(AlertmanagerConfig{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		n := Notice{Now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
		if json.Unmarshal(payload, &n.Alert) != nil {
			return
		}
		text := mailText(&n, mail.Address{Address: "weir@example.com"}, []string{"a@example.com"}, "")
		m, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		if want := map[bool]int{false: 10, true: 12}[n.Alert.FiringID != ""]; len(m.Header) != want {
			t.Fatalf("headers %v, want %d", m.Header, want)
		}
		if bytes.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || r == 0 }) {
			t.Fatalf("%q is not all ASCII", text)
		}
		p := am.postable(&n)
		if p.EndsAt.Before(p.StartsAt) {
			t.Fatalf("ends at %s, before %s", p.EndsAt, p.StartsAt)
		}
		for name, value := range p.Labels {
			if value == "" || name == "" || strings.Trim(name, "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
				t.Fatalf("label %q: %q", name, value)
			}
		}
		if n.Alert.State == alert.Resolved && p.EndsAt.After(n.Now) {
			t.Fatalf("what is resolved ends at %s", p.EndsAt)
		}
	})
}
