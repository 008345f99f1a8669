// Package notify tells people and other systems of alerts: Prometheus
// Alertmanager, webhooks, and mailboxes.
//
// Whatever records an alert makes, in the same transaction, a row for each
// notifier that there is ([weir/pkg/store.DB.HoldNotifier]); the alerts
// themselves wait for no notifier. A [Sender] takes those rows, per notifier in
// a goroutine of its own, and records each that was accepted. So a notification
// is sent at least once; again only where a process ends, or loses Postgres,
// after the receiver has accepted it and before that is recorded, and then with
// the same alert id. Any number of processes may have a Sender; for each
// notifier one of them sends at a time.
//
// What is told, to whom, is a file ([Load]), for which see docs/notifications.md.
package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"weir/pkg/alert"
)

// Notifier is a way to tell of alerts.
type Notifier interface {
	// Wants reports whether there is anybody to tell of the alert.
	Wants(a *alert.Alert) bool
	// Most is how many notices one Send may have.
	Most() int
	// Send tells of all notices or of none, and returns when the receiver has
	// accepted them. The warning says what went wrong although it has. An error
	// that [Refused] means these notices; any other means the receiver as a whole.
	Send(ctx context.Context, notices []Notice) (warning string, err error)
}

// Notice is one telling of an alert.
type Notice struct {
	Alert alert.Alert
	// Repeat is how often the receiver has accepted it before.
	Repeat int
	// Now is when it is told.
	Now time.Time
	// Test says that there is no such alert: somebody tries out the notifier.
	Test bool
}

// over reports whether what the alert tells of is over, and since when.
func (n *Notice) over() (since time.Time, over bool) {
	if n.Alert.ResolvedAt.IsZero() {
		return time.Time{}, n.Alert.State == alert.Resolved
	}
	return n.Alert.ResolvedAt, true
}

// refusal is an error of the notices themselves: others may be accepted.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Refused reports whether an error of [Notifier.Send] is about what was sent, so
// that other notices may be accepted.
func Refused(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// busy is an error of a receiver that says when to try again.
type busy struct {
	error
	after time.Duration
}

func (b busy) Unwrap() error { return b.error }

// Target is a notifier with its name, and what it is told of.
type Target struct {
	Name string // a word such as on-call
	Type string // alertmanager, webhook, email
	// Match chooses the alerts; its zero value takes the global ones.
	Match Match
	// Repeat is how often an alert that still fires is told of again; 0: never.
	Repeat time.Duration
	// Timeout ends one try to send; 0: 10 s.
	Timeout  time.Duration
	Notifier Notifier
}

const defaultTimeout = 10 * time.Second

func (t *Target) timeout() time.Duration {
	if t.Timeout == 0 {
		return defaultTimeout
	}
	return t.Timeout
}

func (t *Target) concerns(a *alert.Alert) bool { return t.Match.matches(a) && t.Notifier.Wants(a) }

// Test tells of an alert that there is not, labelled as a test, whatever the
// target's match.
func (t *Target) Test(ctx context.Context, now time.Time) (warning string, err error) {
	now = now.UTC().Truncate(time.Millisecond)
	a := alert.Alert{
		ID: fmt.Sprintf("test-%d", now.UnixMilli()), Rule: "test", Scope: alert.ScopeGlobal, State: alert.Firing, Severity: 3,
		Key: map[string]string{"notifier": t.Name}, Labels: map[string]string{"test": "true"},
		Message: "This is a test of the notifier " + t.Name + ": nothing has happened", FiredAt: now,
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	if warning, err = t.Notifier.Send(ctx, []Notice{{Alert: a, Now: now, Test: true}}); err != nil {
		return "", fmt.Errorf("test notifier %s: %w", t.Name, err)
	}
	return warning, nil
}

// severityWord is the severity in WSO2's words.
func severityWord(severity int) string {
	switch severity {
	case 1:
		return "severe"
	case 2:
		return "moderate"
	}
	return "mild"
}

// oneLine is the text without what would begin another line or move a cursor,
// in at most so many bytes.
func oneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) <= most {
		return text
	}
	cut := most - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
