package notify

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
)

const topSecret = "T0PSECRET-0123456789"

// options know some rules, and secrets.
func options() Options {
	return Options{
		Rules: []string{"abnormal-response-time", "tier-crossing", "api-health"},
		Env: func(name string) (string, bool) {
			values := map[string]string{"HOOK_SECRET": topSecret, "HOOK_URL": "https://hooks.example.com/" + topSecret, "BAD_URL": topSecret, "SHORT": "T0PSECRET", "LINES": topSecret + "\n" + topSecret}
			value, ok := values[name]
			return value, ok
		},
		Read: func(path string) ([]byte, error) {
			if path == "smtp-password" {
				return []byte(topSecret + "\n"), nil
			}
			return nil, errors.New("open " + path + ": no such file")
		},
	}
}

const example = `
notifiers:
  on-call:
    type: alertmanager
    url: http://alertmanager:9093
    user: weir
    password: {file: smtp-password}
    match: {severity: 2, rules: [tier-crossing, api-health], labels: {team: food}, scope: both, tenant: acme.com}
  hooks:
    type: webhook
    url: {env: HOOK_URL}
    secret: {env: HOOK_SECRET}
    allow: [10.1.0.0/16, 127.0.0.1]
    repeat: never
    timeout: 5 seconds
  mail:
    type: email
    server: smtp.example.com:587
    user: weir
    password: {file: smtp-password}
    from: Weir <weir@example.com>
    repeat: 1 day
    stakeholders:
      - {user: alice, roles: publisher, addresses: [alice@example.com]}
      - {roles: [admin], tenant: "*", rules: api-health, addresses: [ops@example.com, Ops Two <ops2@example.com>]}
`

func TestParse_ReadsNotifiersInTheirOrder(t *testing.T) {
	t.Parallel()
	targets, err := Parse("n.yaml", []byte(example), options())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, target := range targets {
		got = append(got, fmt.Sprintf("%s %s %s %s", target.Name, target.Type, target.Repeat, target.timeout()))
	}
	if want := []string{"on-call alertmanager 1m0s 10s", "hooks webhook 0s 5s", "mail email 24h0m0s 10s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	wantMatch := Match{
		Scopes: []alert.Scope{alert.ScopeGlobal, alert.ScopeLocal}, Rules: []string{"tier-crossing", "api-health"}, Severity: 2,
		Labels: map[string]string{"team": "food"}, Tenant: "acme.com",
	}
	if !reflect.DeepEqual(targets[0].Match, wantMatch) || !reflect.DeepEqual(targets[1].Match, Match{}) {
		t.Errorf("got %+v and %+v", targets[0].Match, targets[1].Match)
	}
	w := targets[1].Notifier.(*Webhook)
	if w.secret.reveal() != topSecret || w.endpoint.url.reveal() != "https://hooks.example.com/"+topSecret || fmt.Sprint(w.guard.allow) != "[10.1.0.0/16 127.0.0.1/32]" {
		t.Errorf("got %s, %v", w.endpoint.url, w.guard.allow)
	}
	e := targets[2].Notifier.(*Email)
	if e.server.Password.reveal() != topSecret || e.server.mode() != STARTTLS || e.from.Name != "Weir" ||
		!slices.Equal(e.stakeholders[1].Addresses, []string{"ops@example.com", "ops2@example.com"}) || e.stakeholders[1].Tenant != AllTenants {
		t.Errorf("got %+v", e)
	}
	if text := fmt.Sprintf("%+v %#v %+v %#v %+v", *e, *e, *w, *w, *targets[0].Notifier.(*Alertmanager)); strings.Contains(text, "T0P") {
		t.Errorf("printed as %s", text)
	}
}

func TestParse_SaysWhereAndWhatToDoAndNoSecret(t *testing.T) {
	t.Parallel()
	notifier := func(lines string) string { return "notifiers:\n  x:\n    " + strings.ReplaceAll(lines, "\n", "\n    ") }
	hook := func(lines string) string { return notifier("type: webhook\nurl: https://example.com\n" + lines) }
	email := func(lines string) string {
		return notifier("type: email\nserver: mail:25\nfrom: a@b.c\nstakeholders: [{roles: admin, addresses: a@b.c}]\n" + lines)
	}
	for _, c := range []struct{ text, want string }{
		{"", `n.yaml: defines nothing`},
		{"{}", `n.yaml:1: notifiers is missing`},
		{"notifiers: []", `n.yaml:1: must be a mapping`},
		{"notifier: {}", `n.yaml:1: unknown field "notifier"; did you mean "notifiers"?`},
		{"notifiers: {x: }", `n.yaml:1: notifier "x": must be a mapping with a type: alertmanager, email, webhook`},
		{"notifiers: {On Call: {type: webhook, url: http://x}}", `n.yaml:1: notifier "On Call": a name is`},
		{notifier("url: http://x"), `n.yaml:2: notifier "x": type is missing`},
		{notifier("type: web-hook"), `n.yaml:3: notifier "x": unknown type "web-hook"; did you mean "webhook"?`},
		{notifier("type: webhook"), `n.yaml:2: notifier "x": url is missing`},
		{notifier("type: webhook\nurl: ftp://T0PSECRET"), `n.yaml:4: notifier "x": url must be http://HOST or https://HOST`},
		{notifier("type: webhook\nurl: https://a:T0PSECRET@b"), `n.yaml:4: notifier "x": url must hold no user and password`},
		{notifier("type: webhook\nurl: {env: BAD_URL}"), `n.yaml:4: notifier "x": url must be http`},
		{notifier("type: webhook\nurl: [http://T0PSECRET]"), `n.yaml:4: notifier "x": url must be a single value, it is a list`},
		{hook("secret: T0PSECRET"), `n.yaml:5: notifier "x": secret is not written here`},
		{hook("secret: {T0PSECRET}"), `n.yaml:5: notifier "x": secret is not written here`},
		{hook("secret: {value: T0PSECRET}"), `n.yaml:5: notifier "x": secret is not written here`},
		{hook("secret: {env: T0PSECRET-x}"), `n.yaml:5: notifier "x": secret: env is the name of a variable`},
		{hook("secret: {env: HOOK_SECRETS}"), `n.yaml:5: notifier "x": secret: the environment variable HOOK_SECRETS is not set`},
		{hook("secret: {env: SHORT}"), `n.yaml:5: notifier "x": secret must have at least 16 bytes`},
		{hook("secret: {env: LINES}"), `n.yaml:5: notifier "x": secret: must be one line`},
		{hook("secret: {file: none}"), `n.yaml:5: notifier "x": secret: open none: no such file`},
		{hook("allow: [10.0.0.0/33]"), `n.yaml:5: notifier "x": allow: "10.0.0.0/33" is no network`},
		{hook("repeat: 1 second"), `n.yaml:5: notifier "x": repeat must be 1m0s to`},
		{hook("repeat: often"), `n.yaml:5: notifier "x": repeat: "often" is no duration`},
		{hook("timeout: 1 hour"), `n.yaml:5: notifier "x": timeout must be 1s to 1m0s`},
		{hook("server: mail:25"), `n.yaml:5: notifier "x": unknown field "server"; known are allow, ca_file`},
		{hook("match: {rules: [tier-crosing]}"), `n.yaml:5: notifier "x": match: there is no rule "tier-crosing"; did you mean "tier-crossing"?`},
		{hook("match: {scope: globe}"), `n.yaml:5: notifier "x": match: unknown scope "globe"; did you mean "global"?`},
		{hook("match: {severity: 4}"), `n.yaml:5: notifier "x": match: severity is the mildest`},
		{hook("match: {labels: {team: [a]}}"), `n.yaml:5: notifier "x": match: a label must be a single value`},
		{hook("match: {rule: x}"), `n.yaml:5: notifier "x": match: unknown field "rule"; did you mean "rules"?`},
		{notifier("type: alertmanager\nurl: http://x\nrepeat: 1 hour"), `n.yaml:5: notifier "x": unknown field "repeat"`},
		{notifier("type: alertmanager\nurl: http://x\nuser: a"), `n.yaml:2: notifier "x": user and password belong together`},
		{notifier("type: alertmanager\nurl: http://x\ntoken: {env: HOOK_SECRET}\npassword: {env: HOOK_SECRET}\nuser: a"), `n.yaml:2: notifier "x": user and token exclude`},
		{notifier("type: email"), `n.yaml:2: notifier "x": server is missing`},
		{notifier("type: email\nserver: mail"), `n.yaml:4: notifier "x": server must be HOST:PORT`},
		{email("tls: ssl"), `n.yaml:7: notifier "x": unknown tls "ssl"`},
		{email("tls: none\nuser: a\npassword: {env: HOOK_SECRET}"), `n.yaml:2: notifier "x": user and tls: none exclude each other`},
		{email("ca_file: smtp-password"), `n.yaml:7: notifier "x": ca_file has no certificate`},
		{strings.Replace(email(""), "from: a@b.c", `from: "a@b.c\nBcc: x@y.z"`, 1), `n.yaml:5: notifier "x": from: "a@b.c`},
		{strings.Replace(email(""), "addresses: a@b.c", "addresses: [a]", 1), `n.yaml:6: notifier "x": stakeholder: addresses: "a" is no address`},
		{strings.Replace(email(""), "roles: admin", "roles: admins", 1), `unknown role "admins"; did you mean "admin"?`},
		{strings.Replace(email(""), "roles: admin", "roles: publisher", 1), `n.yaml:6: notifier "x": stakeholder: user is missing`},
		{strings.Replace(email(""), "roles: admin, ", "", 1), `n.yaml:6: notifier "x": stakeholder: roles is missing`},
		{strings.Replace(email(""), "[{roles: admin, addresses: a@b.c}]", "[]", 1), `n.yaml:2: notifier "x": stakeholders is missing`},
		{strings.Replace(email(""), "[{roles: admin, addresses: a@b.c}]", "alice", 1), `n.yaml:6: notifier "x": stakeholders must be a list, it is "alice"`},
	} {
		targets, err := Parse("n.yaml", []byte(c.text), options())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngives %v, want %s", c.text, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "T0P") || targets != nil {
			t.Errorf("%s\ngives %v, %v", c.text, targets, err)
		}
		var problem *definition.Problem
		if !errors.As(err, &problem) {
			t.Errorf("%s: %T is no problem", c.text, err)
		}
	}
}

func TestLoad_ReadsSecretsBesideTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": topSecret + "\n", "n.yaml": "notifiers: {x: {type: webhook, url: https://example.com, secret: {file: secret}}}"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	targets, err := Load(dir+"/n.yaml", Options{})
	if err != nil || targets[0].Notifier.(*Webhook).secret.reveal() != topSecret {
		t.Errorf("got %v, %v", targets, err)
	}
	if _, err := Load(dir+"/none.yaml", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a file that is not there: %v", err)
	}
}

// The file that docs/notifications.md shows is one that works.
func TestParse_TakesTheExampleOfTheDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("there is no example")
	}
	for _, block := range blocks {
		targets, err := Parse("docs/notifications.md", block[1], Options{
			Env:  func(name string) (string, bool) { return "https://hooks.example.com/x", true },
			Read: func(string) ([]byte, error) { return []byte("a secret of some length"), nil },
		})
		if err != nil || len(targets) == 0 {
			t.Errorf("%s\ngives %v", block[1], err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("notifiers: {x: {type: webhook, url: http://x, secret: {env: HOOK_SECRET}}}"))
	f.Add([]byte("notifiers: &a {x: *a}"))
	f.Add([]byte("a: &a [&b {type: *a}]\nnotifiers: {x: *b, y: {<<: *b, type: email, stakeholders: [*b]}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		targets, err := Parse("n.yaml", text, options())
		if err != nil {
			if strings.Contains(err.Error(), topSecret) && !strings.Contains(string(text), topSecret) {
				t.Fatalf("%q is told with a secret: %v", text, err)
			}
			return
		}
		a := firing("a")
		for _, target := range targets {
			if target.Notifier == nil || target.Notifier.Most() < 1 || target.timeout() <= 0 || target.timeout() > time.Minute || target.Repeat < 0 {
				t.Fatalf("%q gives %+v", text, target)
			}
			target.concerns(&a)
			if e, ok := target.Notifier.(*Email); ok {
				for _, s := range e.stakeholders {
					for _, address := range s.Addresses {
						if strings.ContainsAny(address, "\r\n<> ") {
							t.Fatalf("%q gives the address %q", text, address)
						}
					}
				}
			}
		}
	})
}
