package notify

import (
	"cmp"
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"

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
}

// Email sends mails in plain text, one per alert to all whom it concerns; no
// receiver sees the others.
type Email struct {
	server       SMTPConfig
	from         mail.Address
	stakeholders []Stakeholder
}

// NewEmail returns the notifier.
func NewEmail(cfg EmailConfig) *Email {
	return &Email{server: cfg.Server, from: cfg.From, stakeholders: cfg.Stakeholders}
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
		refused, err := e.server.send(ctx, e.from.Address, to, mailText(n, e.from, to))
		if err != nil {
			return "", err
		}
		if len(refused) > 0 {
			warning = fmt.Sprintf("%d of %d addresses were refused: %s", len(refused), len(to), oneLine(strings.Join(refused, "; "), 300))
		}
	}
	return warning, nil
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
