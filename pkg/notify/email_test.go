package notify

import (
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
)

func stakeholders() []Stakeholder {
	publisher, subscriber, admin := []alert.Role{alert.Publisher}, []alert.Role{alert.Subscriber}, []alert.Role{Admin}
	return []Stakeholder{
		{User: "alice", Roles: publisher, Addresses: []string{"alice@example.com", "alice2@example.com"}},
		{User: "bob@carbon.super", Roles: []alert.Role{alert.Publisher, alert.Subscriber}, Addresses: []string{"bob@example.com"}},
		{User: "carol", Tenant: "acme.com", Roles: subscriber, Addresses: []string{"carol@acme.com"}},
		{User: "dave@acme.com", Roles: publisher, Rules: []string{"api-health"}, Addresses: []string{"dave@acme.com"}},
		{Roles: admin, Addresses: []string{"admin@example.com"}},
		{Tenant: "acme.com", Roles: admin, Rules: []string{"tier-crossing"}, Addresses: []string{"admin@acme.com"}},
		{Tenant: AllTenants, Roles: admin, Rules: []string{"api-health"}, Addresses: []string{"ops@example.com"}},
		{User: "al", Roles: publisher, Addresses: []string{"al@example.com"}},
	}
}

// As WSO2 routes: to publishers what concerns their APIs, to subscribers what
// concerns their applications, to admins all; within a tenant.
func TestEmail_RoutesByRoleTenantAndRule(t *testing.T) {
	t.Parallel()
	e := NewEmail(EmailConfig{Stakeholders: stakeholders()})
	for _, c := range []struct {
		name, rule string
		who        alert.Stakeholder
		key        map[string]string
		want       string
	}{
		{"a publisher's API", "abnormal-response-time", alert.Stakeholder{Role: alert.Publisher, User: "alice", Tenant: SuperTenant}, nil, "alice@example.com alice2@example.com admin@example.com"},
		{"with the tenant in the name", "abnormal-response-time", alert.Stakeholder{Role: alert.Publisher, User: "alice@carbon.super"}, nil, "alice@example.com alice2@example.com admin@example.com"},
		{"without a tenant", "abnormal-response-time", alert.Stakeholder{Role: alert.Publisher, User: "bob"}, nil, "bob@example.com admin@example.com"},
		{"the same user in another role", "tier-crossing", alert.Stakeholder{Role: alert.Subscriber, User: "alice", Tenant: SuperTenant}, nil, "admin@example.com"},
		{"a user of both roles", "tier-crossing", alert.Stakeholder{Role: alert.Subscriber, User: "bob", Tenant: SuperTenant}, nil, "bob@example.com admin@example.com"},
		{"the same name in another tenant", "tier-crossing", alert.Stakeholder{Role: alert.Subscriber, User: "bob", Tenant: "acme.com"}, nil, "admin@acme.com"},
		{"a subscriber of a tenant", "tier-crossing", alert.Stakeholder{Role: alert.Subscriber, User: "carol", Tenant: "acme.com"}, nil, "carol@acme.com admin@acme.com"},
		{"of which others have only some rules", "abnormal-response-time", alert.Stakeholder{Role: alert.Publisher, User: "dave@acme.com", Tenant: "acme.com"}, nil, ""},
		{"and this is one", "api-health", alert.Stakeholder{Role: alert.Publisher, User: "dave@acme.com", Tenant: "acme.com"}, nil, "dave@acme.com ops@example.com"},
		{"no stakeholder, a tenant in the key", "tier-crossing", alert.Stakeholder{}, map[string]string{"apiCreatorTenantDomain": "acme.com"}, "admin@acme.com"},
		{"neither", "tier-crossing", alert.Stakeholder{}, nil, "admin@example.com"},
		{"an unknown tenant", "api-health", alert.Stakeholder{Role: alert.Publisher, User: "eve", Tenant: "evil.com"}, nil, "ops@example.com"},
		{"a name that another begins with", "x", alert.Stakeholder{Role: alert.Publisher, User: "a", Tenant: SuperTenant}, nil, "admin@example.com"},
		{"a rule that another is part of", "api-healthy", alert.Stakeholder{Role: alert.Publisher, User: "dave@acme.com", Tenant: "acme.com"}, nil, ""},
		{"a user with an address for a name", "x", alert.Stakeholder{Role: alert.Publisher, User: "bob@carbon.super@acme.com", Tenant: "acme.com"}, nil, ""},
	} {
		a := alert.Alert{Rule: c.rule, Stakeholder: c.who, Key: c.key}
		if got := strings.Join(e.recipients(&a), " "); got != c.want || e.Wants(&a) != (c.want != "") {
			t.Errorf("%s: to %q, want %q", c.name, got, c.want)
		}
	}
}

// read parses a mail as a mailbox does.
func readMail(t *testing.T, text string) (header mail.Header, subject, body string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	return m.Header, subject, string(all)
}

func TestEmail_IsPlainTextWhoseSubjectSaysWhatHappens(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	e := NewEmail(EmailConfig{
		Server: m.config(""), From: mail.Address{Name: "Weir ü", Address: "weir@example.com"},
		Stakeholders: []Stakeholder{{User: "alice", Roles: []alert.Role{alert.Publisher}, Addresses: []string{"alice@example.com"}}},
	})
	a := firing("a1")
	a.Message = "GET /menü of Pizza took 7000 ms, more than 5000 ms"
	for _, n := range []Notice{{Alert: a}, {Alert: a, Repeat: 1}, {Alert: resolved(a)}} {
		n.Now = time.Now()
		if warning, err := e.Send(t.Context(), []Notice{n}); err != nil || warning != "" {
			t.Fatal(warning, err)
		}
	}
	var subjects, ids []string
	for i, got := range m.got() {
		header, subject, body := readMail(t, got.text)
		subjects, ids = append(subjects, subject), append(ids, header.Get("Message-Id"))
		if got.from != "weir@example.com" || header.Get("To") != "<alice@example.com>" || header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("from %s, header %v", got.from, header)
		}
		if i > 0 && header.Get("References") != ids[0] {
			t.Errorf("%v does not belong to the first, %v", header, ids)
		}
		for _, want := range []string{a.Message, "abnormal-response-time", "  apiName: Pizza a1", "  team: food", "weir alerts show a1\r\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("no %q in %s", want, body)
			}
		}
	}
	want := []string{"[moderate] " + a.Message, "[moderate] [still] " + a.Message, "[resolved] " + a.Message}
	if !slices.Equal(subjects, want) {
		t.Errorf("subjects %q, want %q", subjects, want)
	}
	if len(ids) != 3 || ids[0] != "<a1.0@example.com>" || ids[0] == ids[1] || ids[1] == ids[2] {
		t.Errorf("message ids %q", ids)
	}
}

func TestEmail_ReceiversDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	e := NewEmail(EmailConfig{Server: m.config(""), From: mail.Address{Address: "weir@example.com"}, Stakeholders: append(stakeholders(), Stakeholder{
		Roles: []alert.Role{Admin}, Addresses: []string{"nobody@example.com"},
	})})
	warning, err := e.Send(t.Context(), []Notice{{Alert: firing("a1"), Now: time.Now()}})
	if err != nil || !strings.Contains(warning, "1 of 4 addresses were refused: nobody@example.com") {
		t.Errorf("warned %q, %v", warning, err)
	}
	got := m.got()
	if len(got) != 1 || !slices.Equal(got[0].to, []string{"alice@example.com", "alice2@example.com", "admin@example.com"}) || strings.Contains(got[0].text, "alice@") {
		t.Errorf("got %+v", got)
	}
}

func TestEmail_NoAlertCanAddAHeader(t *testing.T) {
	t.Parallel()
	const evil = "x\r\nBcc: victim@example.com\r\n\r\nbody\n.\r\n\u2028\u0085\x00\x1b]0;\u202e=?utf-8?q?=0D=0ABcc:_v?="
	a := alert.Alert{
		ID: evil, FiringID: evil, Rule: evil, Case: evil, State: alert.Resolved, Message: evil, Reason: evil, ShardID: evil, Scope: alert.ScopeLocal,
		Key: map[string]string{evil: evil}, Details: map[string]string{evil: evil}, Labels: map[string]string{evil: evil},
		Stakeholder: alert.Stakeholder{Role: evil, User: evil, Tenant: evil},
	}
	for _, message := range []string{evil, strings.Repeat("ü", 5000), strings.Repeat("x\r\n ", 5000), "\xff\xfe", ""} {
		a.Message = message
		text := string(mailText(&Notice{Alert: a, Now: time.Now()}, mail.Address{Name: evil, Address: "weir@example.com"}, []string{"a@example.com"}, ""))
		header, subject, body := readMail(t, text)
		for name := range header {
			if !slices.Contains([]string{
				"From", "To", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Auto-Submitted", AlertHeader,
				"Mime-Version", "Content-Type", "Content-Transfer-Encoding",
			}, name) || len(header[name]) != 1 {
				t.Errorf("there is a header %s: %q", name, header[name])
			}
		}
		if len(subject) > mostSubject || strings.ContainsAny(subject, "\r\n\x00\x1b") || strings.ContainsAny(body, "\x00\x1b") {
			t.Errorf("the subject is %q, the body %q", subject, body)
		}
		if parsed, err := mail.ParseAddressList(header.Get("From")); err != nil || len(parsed) != 1 || parsed[0].Address != "weir@example.com" {
			t.Errorf("it is from %v, %v", parsed, err)
		}
	}
}
