package notify

import (
	"crypto/x509"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"weir/pkg/alert"
	"weir/pkg/definition"
)

// Each of these adds the fields of its type to those of every notifier; what it
// returns makes the notifier, once they are read.

func (l loader) alertmanager(key *yaml.Node, fields map[string]func(*yaml.Node)) func() Notifier {
	var cfg AlertmanagerConfig
	fields["url"] = func(n *yaml.Node) { cfg.URL = l.url(n, l.Text("url", n)) }
	fields["user"] = func(n *yaml.Node) { cfg.User = l.Text("user", n) }
	fields["password"] = func(n *yaml.Node) { cfg.Password = l.secret("password", n) }
	fields["token"] = func(n *yaml.Node) { cfg.Token = l.secret("token", n) }
	fields["ca_file"] = func(n *yaml.Node) { cfg.Authorities = l.authorities(n) }
	return func() Notifier {
		if cfg.URL == "" {
			l.Bad(key, "url is missing: where Alertmanager answers, as http://alertmanager:9093")
		}
		if cfg.User != "" && !cfg.Token.empty() {
			l.Bad(key, "user and token exclude each other")
		}
		if (cfg.User == "") != cfg.Password.empty() {
			l.Bad(key, "user and password belong together")
		}
		return NewAlertmanager(cfg)
	}
}

func (l loader) webhook(key *yaml.Node, fields map[string]func(*yaml.Node)) func() Notifier {
	var cfg WebhookConfig
	fields["url"] = func(n *yaml.Node) {
		if n.Kind == yaml.MappingNode { // the URLs of many services are secrets
			cfg.URL = NewSecret(l.url(n, l.secret("url", n).reveal()))
			return
		}
		cfg.URL = NewSecret(l.url(n, l.Text("url", n)))
	}
	fields["secret"] = func(n *yaml.Node) {
		if cfg.Secret = l.secret("secret", n); !cfg.Secret.empty() && len(cfg.Secret.reveal()) < 16 {
			l.Bad(n, "secret must have at least 16 bytes: take what `openssl rand -hex 32` prints")
		}
	}
	fields["allow"] = func(n *yaml.Node) { cfg.Allow = l.networks("allow", n) }
	fields["ca_file"] = func(n *yaml.Node) { cfg.Authorities = l.authorities(n) }
	return func() Notifier {
		if cfg.URL.empty() {
			l.Bad(key, "url is missing: where to post alerts")
		}
		return NewWebhook(cfg)
	}
}

func (l loader) email(key *yaml.Node, fields map[string]func(*yaml.Node)) func() Notifier {
	var cfg EmailConfig
	var given bool // stakeholders
	modes := []string{string(STARTTLS), string(ImplicitTLS), string(OfferedTLS), string(NoTLS)}
	fields["server"] = func(n *yaml.Node) { cfg.Server.Host, cfg.Server.Port = l.server(n) }
	fields["tls"] = func(n *yaml.Node) {
		cfg.Server.TLS = TLSMode(l.Text("tls", n))
		if cfg.Server.TLS != "" && !slices.Contains(modes, string(cfg.Server.TLS)) {
			l.Bad(n, "unknown tls %q%s", string(cfg.Server.TLS), definition.Suggest(string(cfg.Server.TLS), modes))
		}
	}
	fields["user"] = func(n *yaml.Node) { cfg.Server.User = l.Text("user", n) }
	fields["password"] = func(n *yaml.Node) { cfg.Server.Password = l.secret("password", n) }
	fields["ca_file"] = func(n *yaml.Node) { cfg.Server.Authorities = l.authorities(n) }
	fields["from"] = func(n *yaml.Node) { cfg.From = l.address("from", n) }
	fields["per_hour"] = func(n *yaml.Node) {
		number, err := strconv.Atoi(l.Text("per_hour", n))
		if err != nil || number < 1 || number > mostMailsPerHour {
			l.Bad(n, "per_hour must be 1 to %d: how many mails an address gets in an hour", mostMailsPerHour)
			return
		}
		cfg.PerHour = number
	}
	fields["stakeholders"] = func(n *yaml.Node) {
		given = true
		for _, item := range l.Items("stakeholders", n) {
			cfg.Stakeholders = append(cfg.Stakeholders, l.stakeholder(item))
		}
	}
	return func() Notifier {
		if cfg.Server.Host == "" {
			l.Bad(key, "server is missing: the mail server, as smtp.example.com:587")
		}
		if cfg.From.Address == "" {
			l.Bad(key, "from is missing: the address that mails come from")
		}
		if !given || len(cfg.Stakeholders) == 0 {
			l.Bad(key, "stakeholders is missing: nobody would get a mail")
		}
		if (cfg.Server.User == "") != cfg.Server.Password.empty() {
			l.Bad(key, "user and password belong together")
		}
		if cfg.Server.User != "" && cfg.Server.TLS == NoTLS {
			l.Bad(key, "user and tls: none exclude each other: a password goes over encrypted connections only")
		}
		return NewEmail(cfg)
	}
}

func (l loader) stakeholder(n *yaml.Node) (s Stakeholder) {
	l = l.within("stakeholder")
	roles := []string{string(alert.Publisher), string(alert.Subscriber), string(Admin)}
	l.Fields(n, map[string]func(*yaml.Node){
		"user":   func(n *yaml.Node) { s.User = l.Text("user", n) },
		"tenant": func(n *yaml.Node) { s.Tenant = l.Text("tenant", n) },
		"rules":  func(n *yaml.Node) { s.Rules = l.rules(n) },
		"roles": func(n *yaml.Node) {
			for _, item := range l.Texts("roles", n) {
				if !slices.Contains(roles, item.Value) {
					l.Bad(item, "unknown role %q%s", item.Value, definition.Suggest(item.Value, roles))
				}
				s.Roles = append(s.Roles, alert.Role(item.Value))
			}
		},
		"addresses": func(n *yaml.Node) {
			for _, item := range l.Texts("addresses", n) {
				s.Addresses = append(s.Addresses, l.address("addresses", item).Address)
			}
		},
	})
	switch {
	case n.Kind != yaml.MappingNode: // said already
	case len(s.Roles) == 0:
		l.Bad(n, "roles is missing: publisher (of alerts about APIs of the user), subscriber (about applications), admin (about all of the tenant)")
	case len(s.Addresses) == 0:
		l.Bad(n, "addresses is missing")
	case s.User == "" && !slices.Contains(s.Roles, Admin):
		l.Bad(n, "user is missing: alerts name the user whom they concern; only an admin may be without")
	}
	return s
}

// environmentName is how variables are named; what is not may be the secret itself.
var environmentName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// secret is a text that is not in the file: {env: NAME} or {file: PATH}. No
// problem shows any of it, nor what stands there in place of that.
func (l loader) secret(name string, n *yaml.Node) Secret {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || n.Content[0].Value != "env" && n.Content[0].Value != "file" {
		l.Bad(n, "%s is not written here, where others read it: give {file: PATH} or {env: NAME}", name)
		return Secret{}
	}
	l = l.within("%s", name)
	value := n.Content[1]
	text := ""
	if n.Content[0].Value == "file" {
		text = strings.TrimRight(string(l.content(value)), "\r\n")
	} else if variable := l.Text("env", value); environmentName.MatchString(variable) {
		if text, _ = l.options.Env(variable); text == "" {
			l.Bad(value, "the environment variable %s is not set", variable)
		}
	} else {
		l.Bad(value, "env is the name of a variable: capital letters, digits and _")
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		l.Bad(n, "must be one line of text")
		return Secret{}
	}
	return NewSecret(text)
}

// content is what is in the file that the node names; nil after a problem.
func (l loader) content(n *yaml.Node) []byte {
	path := l.Text("file", n)
	if path == "" {
		return nil
	}
	text, err := l.options.Read(path)
	switch {
	case err != nil:
		l.Bad(n, "%v", err)
	case len(text) == 0 || len(text) > maxFile:
		l.Bad(n, "%s must have 1 to %d bytes", path, maxFile)
	default:
		return text
	}
	return nil
}

func (l loader) authorities(n *yaml.Node) *x509.CertPool {
	text := l.within("ca_file").content(n)
	pool := x509.NewCertPool()
	if text != nil && !pool.AppendCertsFromPEM(text) {
		l.Bad(n, "ca_file has no certificate in PEM form")
	}
	return pool
}

// url checks an address of HTTP and returns it; "" after a problem, which shows nothing of it.
func (l loader) url(n *yaml.Node, text string) string {
	if text == "" {
		return "" // said already
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		l.Bad(n, "url must be http://HOST or https://HOST, with port and path where they are needed")
	case u.User != nil:
		l.Bad(n, "url must hold no user and password")
	case u.Fragment != "":
		l.Bad(n, "url must end before the #")
	default:
		return text
	}
	return "http://invalid" // given, and wrong
}

func (l loader) server(n *yaml.Node) (host, port string) {
	text := l.Text("server", n)
	if text == "" {
		return "", ""
	}
	host, port, err := net.SplitHostPort(text)
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || number == 0 {
		l.Bad(n, "server must be HOST:PORT, as smtp.example.com:587")
		return "invalid", "1"
	}
	return host, port
}

func (l loader) address(name string, n *yaml.Node) mail.Address {
	text := l.Text(name, n)
	if text == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(text)
	if err != nil || !plainAddress(a.Address) {
		l.Bad(n, "%s: %q is no address such as alice@example.com", name, text)
		return mail.Address{Address: "invalid@invalid"}
	}
	return *a
}

// plainAddress reports whether an address needs no quotes: what does is hardly
// ever meant, and read differently by different servers.
func plainAddress(address string) bool {
	local, domain := splitUser(address)
	return local != "" && domain != "" && !strings.ContainsFunc(address, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`"(),:;<>[\]`, r)
	}) && strings.Count(address, "@") == 1
}

func (l loader) networks(name string, n *yaml.Node) (networks []netip.Prefix) {
	for _, item := range l.Texts(name, n) {
		network, err := netip.ParsePrefix(item.Value)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(item.Value); err == nil {
				network = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil {
			l.Bad(item, "%s: %q is no network such as 10.1.0.0/16, nor an address", name, item.Value)
			continue
		}
		networks = append(networks, network.Masked())
	}
	return networks
}
