package notify

import (
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// mailed is a notifier of an admin, who gets all, and of alice, who gets what concerns her.
func mailed(m *mailServer, perHour int) *Email {
	return NewEmail(EmailConfig{
		Server: m.config(""), From: mail.Address{Address: "weir@example.com"}, PerHour: perHour,
		Stakeholders: []Stakeholder{
			{Tenant: SuperTenant, Roles: []alert.Role{Admin}, Addresses: []string{"admin@example.com"}},
			{User: "alice", Roles: []alert.Role{alert.Publisher}, Addresses: []string{"alice@example.com"}},
		},
	})
}

// of is an alert about an API of the user.
func of(id, user string) alert.Alert {
	a := firing(id)
	a.Stakeholder.User, a.Message = user, "alert "+id
	return a
}

// to counts the mails of an address, and returns the subjects and texts.
func (m *mailServer) to(t *testing.T, address string) (subjects, bodies []string) {
	t.Helper()
	for _, got := range m.got() {
		if slices.Contains(got.to, address) {
			_, subject, body := readMail(t, got.text)
			subjects, bodies = append(subjects, subject), append(bodies, body)
		}
	}
	return subjects, bodies
}

func TestEmail_TellsWhatIsBeyondTheMailsOfAnHourInOneAtItsEnd(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	e := mailed(m, 3)
	begin := time.Now()
	tell := func(id, user string, after time.Duration) (until time.Duration) {
		t.Helper()
		_, err := e.Send(t.Context(), []Notice{{Alert: of(id, user), Now: begin.Add(after)}})
		if kept := (later{}); errors.As(err, &kept) {
			return kept.at.Sub(begin)
		} else if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	for i := range 3 {
		if until := tell(fmt.Sprint("a", i), "bob", time.Duration(i)*time.Minute); until != 0 {
			t.Fatalf("mail %d of 3 is kept until %s", i+1, until)
		}
	}
	// Alice has had none of these: she is told at once, and once, while the admin has to wait.
	for i := 3; i < 8; i++ {
		user := map[bool]string{true: "alice", false: "bob"}[i == 5]
		if until := tell(fmt.Sprint("a", i), user, time.Duration(i)*time.Minute); until != time.Hour {
			t.Errorf("mail %d is kept until %s, want 1h", i+1, until)
		}
	}
	if until := tell("a5", "alice", 30*time.Minute); until != time.Hour { // looked at again before its time
		t.Errorf("it is kept until %s", until)
	}
	subjects, bodies := m.to(t, "admin@example.com")
	if len(subjects) != 3 || !strings.Contains(bodies[2], "the last of 3 mails of an hour") || strings.Contains(bodies[1], "the last") {
		t.Fatalf("the admin has %q\n%s", subjects, bodies)
	}

	for i := 3; i < 8; i++ { // as the queue does: all are due when the hour is over
		user := map[bool]string{true: "alice", false: "bob"}[i == 5]
		if until := tell(fmt.Sprint("a", i), user, time.Hour+time.Second); until != 0 {
			t.Errorf("alert a%d is kept again", i)
		}
	}
	if until := tell("a8", "bob", time.Hour+2*time.Second); until != 0 {
		t.Error("the first mail after the summary is kept")
	}
	subjects, bodies = m.to(t, "admin@example.com")
	if want := "[summary] 5 alerts beyond the 3 mails of an hour"; len(subjects) != 5 || subjects[3] != want || subjects[4] != "[moderate] alert a8" {
		t.Fatalf("the admin has %q, want the fourth to be %q, and a8", subjects, want)
	}
	for i := range 9 {
		if got, want := strings.Contains(bodies[3], fmt.Sprintf("alert a%d\r\n", i)), i >= 3 && i < 8; got != want {
			t.Errorf("the summary names alert a%d: %v\n%s", i, got, bodies[3])
		}
	}
	if subjects, _ := m.to(t, "alice@example.com"); !slices.Equal(subjects, []string{"[moderate] alert a5"}) {
		t.Errorf("alice has %q", subjects)
	}
}

func TestEmail_WhatFailsIsNotCountedAndNotLost(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	e := mailed(m, 1)
	now := time.Now()
	send := func(id string, at time.Time) error {
		_, err := e.Send(t.Context(), []Notice{{Alert: of(id, "bob"), Now: at}})
		return err
	}
	works := e.server
	e.server.Port = "1"
	if err := send("a0", now); err == nil || errors.As(err, &later{}) {
		t.Fatalf("got %v from a server that is not there", err)
	}
	e.server = works
	if err := send("a0", now); err != nil {
		t.Fatal(err)
	}
	if err := send("a1", now); !errors.As(err, &later{}) {
		t.Fatalf("got %v beyond one mail an hour", err)
	}
	e.server.Port = "1"
	if err := send("a1", now.Add(time.Hour)); err == nil || errors.As(err, &later{}) {
		t.Fatalf("the summary: got %v from a server that is not there", err)
	}
	e.server = works
	if err := send("a1", now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	subjects, _ := m.to(t, "admin@example.com")
	if want := []string{"[moderate] alert a0", "[summary] 1 alert beyond the 1 mails of an hour"}; !slices.Equal(subjects, want) {
		t.Errorf("got %q, want %q", subjects, want)
	}
}

// What is kept waits in Postgres, so that it is not lost with the process.
func TestSender_KeepsWhatIsBeyondTheMailsOfAnHourInTheQueue(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	db := open(t, database(t))
	target := &Target{Name: "mail", Type: "email", Notifier: mailed(m, 2)}
	registered(t, db, target)
	for i := range 5 {
		write(t, db, of(fmt.Sprint("a", i), "bob"))
	}
	start(t, db, fast(), Config{Targets: []*Target{target}})
	count := func() (sent, kept int) {
		for i := range 5 {
			all, err := db.Notifications(t.Context(), fmt.Sprint("a", i))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range all {
				switch wait := time.Until(n.DueAt); {
				case n.State == store.NotificationSent:
					sent++
				case n.State == store.NotificationWaiting && n.Attempts == 0 && wait > 50*time.Minute && wait < 61*time.Minute:
					kept++
				}
			}
		}
		return sent, kept
	}
	until(t, "two are sent and three are kept", func() bool { sent, kept := count(); return sent == 2 && kept == 3 })
	if got := len(m.got()); got != 2 {
		t.Errorf("%d mails, want 2", got)
	}
}
