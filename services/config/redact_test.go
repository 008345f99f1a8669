package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRedact_HidesSecretsAndNothingElse(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"no secret", "postgres://me@h:5432/d?sslmode=disable", "postgres://me@h:5432/d?sslmode=disable"},
		{"no user", "nats://127.0.0.1:4222", "nats://127.0.0.1:4222"},
		{"password", "postgres://me:hidden@h:5432/d?sslmode=disable", "postgres://me:xxxxx@h:5432/d?sslmode=disable"},
		{"empty password", "postgres://me:@h/d", "postgres://me:xxxxx@h/d"},
		{"@ in the password", "postgres://me:hid@den@h/d", "postgres://me:xxxxx@h/d"},
		{"/ in the password", "postgres://me:hid/den@h/d", "postgres://me:xxxxx@h/d"},
		{"@ after the host", "postgres://me:hidden@h/d?user=a@b", "postgres://me:xxxxx@h/d?user=a@b"},
		{"bad escape", "postgres://me:hid%den@h/d", "postgres://me:xxxxx@h/d"},
		{"parameter", "postgres://h/d?password=hidden&x=1", "postgres://h/d?password=xxxxx&x=1"},
		{"key=value", "host=h user=me password=hidden dbname=d", "host=h user=me password=xxxxx dbname=d"},
		{"key = 'quoted value'", `password = 'hid den\'hidden' host=h`, `password = xxxxx host=h`},
		{"token", "nats://hidden@h:4222", "nats://xxxxx@h:4222"},
		{"list", "nats://a:hidden@h1:4222,nats://b:hidden@h2:4222", "nats://a:xxxxx@h1:4222,nats://b:xxxxx@h2:4222"},
		{"no scheme", "me:hidden@h:4222", "me:xxxxx@h:4222"},
		{"plain text", "open stream EVENTS: timeout after 5s", "open stream EVENTS: timeout after 5s"},
		{"inside a message", `connect to "postgres://me:hidden@h/d": refused`, `connect to "postgres://me:xxxxx@h/d": refused`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Redact(tt.in); got != tt.want {
				t.Errorf("Redact(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestURL_ShowsNoSecretHoweverItIsPrinted(t *testing.T) {
	t.Parallel()
	c := Default()
	c.NATS.URL, c.Postgres.URL = "nats://hidden@h", "postgres://me:hidden@h/d"
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	printed := string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		printed += fmt.Sprintf("\n"+verb, c)
	}
	if strings.Contains(printed, "hidden") || !strings.Contains(printed, "postgres://me:xxxxx@h/d") {
		t.Errorf("a printed configuration shows a secret:\n%s", printed)
	}
}
