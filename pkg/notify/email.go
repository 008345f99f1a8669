package notify

import (
	"cmp"
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"weir/pkg/alert"
)

// Admin is the role of stakeholders who are told of all alerts of their tenant,
// beside those that alerts themselves name.
const Admin alert.Role = "admin"

// AllTenants as a stakeholder's tenant means every one.
const AllTenants = "*"

// Stakeholder is somebody who is told by e-mail, as in WSO2: a publisher of
// alerts about the APIs that are his, a subscriber of those about his
// applications, an admin of all; each of his tenant only.
type Stakeholder struct {
	User      string // with or without @tenant; an admin needs none
	Tenant    string // "": that of the user, else [SuperTenant]
	Roles     []alert.Role
	Rules     []string // empty: all
	Addresses []string // plain: alice@example.com
}

// concerned reports whether he is to be told of the alert.
func (s *Stakeholder) concerned(a *alert.Alert) bool {
	tenant := tenantOf(a)
	own := s.tenant()
	if own != AllTenants && own != tenant || len(s.Rules) > 0 && !slices.Contains(s.Rules, a.Rule) {
		return false
	}
	if slices.Contains(s.Roles, Admin) {
		return true
	}
	return a.Stakeholder.User != "" && slices.Contains(s.Roles, a.Stakeholder.Role) &&
		fullUser(s.User, tenant) == fullUser(a.Stakeholder.User, tenant)
}

func (s *Stakeholder) tenant() string {
	_, tenant := splitUser(s.User)
	return cmp.Or(s.Tenant, tenant, SuperTenant)
}

// EmailConfig says by which server mails are sent, and to whom.
type EmailConfig struct {
	Server       SMTPConfig
	From         mail.Address
	Stakeholders []Stakeholder
	// PerHour is how many mails an address gets in an hour at most; what else there is it is told in one mail at its
	// end. 0: DefaultMailsPerHour.
	PerHour int
}

// Email sends mails in plain text, one per alert to all whom it concerns; no
// receiver sees the others.
type Email struct {
	boxes        *mailboxes
	server       SMTPConfig
	from         mail.Address
	stakeholders []Stakeholder
}

// NewEmail returns the notifier.
func NewEmail(cfg EmailConfig) *Email {
	return &Email{boxes: &mailboxes{most: cmp.Or(cfg.PerHour, DefaultMailsPerHour), all: map[string]*mailbox{}}, server: cfg.Server, from: cfg.From, stakeholders: cfg.Stakeholders}
}

// Wants is part of Notifier.
func (e *Email) Wants(a *alert.Alert) bool { return len(e.recipients(a)) > 0 }

// Most is part of Notifier.
func (e *Email) Most() int { return 1 }

// Send is part of Notifier.
func (e *Email) Send(ctx context.Context, notices []Notice) (warning string, err error) {
	for i := range notices {
		n := &notices[i]
		to := e.recipients(&n.Alert)
		if n.Test {
			to = e.admins()
		}
		if len(to) == 0 {
			return "", refusal{fmt.Errorf("no stakeholder with the role %s: nobody would get it", Admin)}
		}
		refused, err := e.deliver(ctx, n, to)
		if err != nil {
			return "", err
		}
		if len(refused) > 0 {
			warning = fmt.Sprintf("%d of %d addresses were refused: %s", len(refused), len(to), oneLine(strings.Join(refused, "; "), 300))
		}
	}
	return warning, nil
}

// deliver sends a notice to those who may get a mail now, and to those whose hour is over what was kept for them. Where
// somebody has to wait its error is [later], and whoever has had the notice does not get it again then.
func (e *Email) deliver(ctx context.Context, n *Notice, to []string) (refused []string, err error) {
	if n.Test {
		return e.server.send(ctx, e.from.Address, to, mailText(n, e.from, to, ""))
	}
	id := messageID(n.Alert.ID, n.Repeat, e.from)
	var wait time.Time
	turns := map[turn][]string{}
	for _, address := range to {
		what, until := e.boxes.take(address, id, n)
		turns[what] = append(turns[what], address)
		if until.After(wait) {
			wait = until
		}
	}
	send := func(what turn, to, ids []string, text []byte) {
		if err != nil {
			for _, address := range to {
				e.boxes.sent(address, what, ids, true)
			}
			return
		}
		var bad []string
		bad, err = e.server.send(ctx, e.from.Address, to, text)
		refused = append(refused, bad...)
		for _, address := range to {
			e.boxes.sent(address, what, ids, err != nil)
		}
	}
	note := fmt.Sprintf("\r\nThis is the last of %d mails of an hour to this address: what else there is comes in one mail at its end.\r\n", e.boxes.most)
	if addresses := turns[one]; len(addresses) > 0 {
		send(one, addresses, []string{id}, mailText(n, e.from, addresses, ""))
	}
	if addresses := turns[last]; len(addresses) > 0 {
		send(last, addresses, []string{id}, mailText(n, e.from, addresses, note))
	}
	for _, address := range turns[all] {
		ids, lines := e.boxes.summary(address)
		send(all, []string{address}, ids, summaryText(lines, e.boxes.most, n.Now, e.from, address))
	}
	if err == nil && !wait.IsZero() {
		return refused, later{wait}
	}
	if err == nil {
		e.boxes.done(id)
	}
	return refused, err
}

// recipients are the addresses of those whom the alert concerns, each once.
func (e *Email) recipients(a *alert.Alert) []string {
	return e.addresses(func(s *Stakeholder) bool { return s.concerned(a) })
}

// admins are those of all tenants, who get tests.
func (e *Email) admins() []string {
	return e.addresses(func(s *Stakeholder) bool { return slices.Contains(s.Roles, Admin) })
}

func (e *Email) addresses(of func(*Stakeholder) bool) (addresses []string) {
	for i := range e.stakeholders {
		if s := &e.stakeholders[i]; of(s) {
			for _, address := range s.Addresses {
				if !slices.Contains(addresses, address) {
					addresses = append(addresses, address)
				}
			}
		}
	}
	return addresses
}
