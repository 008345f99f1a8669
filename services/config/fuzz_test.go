package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Whatever is in the file, it is settings, or problems with their lines.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"postgres:\n  url: postgres://x\nworker: {shard_id: w1}\n", "a: &a {b: *a}\n", "nats: [1, 2]\n", "postgres.url: x\n", "log: !!binary AA==\n", "? {a: b}\n: c\n",
		"<<: {nats: {url: x}}\n", "worker:\n  batch_messages: 1e99\n  linger: -5s\n", "\xff\xfe", "---\n---\n", "http: {listen: \"\\e[2J\"}\n",
	} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "weir.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := sources{defaults: Default(), file: path, flags: pflag.NewFlagSet("fuzz", pflag.ContinueOnError)}.load()
		var problems Problems
		var unread unreadable
		switch {
		case err == nil || errors.As(err, &unread):
		case !errors.As(err, &problems) || len(problems) == 0:
			t.Fatalf("got %T %v, want Problems", err, err)
		}
		for _, problem := range problems {
			if strings.TrimSpace(problem) == "" {
				t.Fatalf("an empty problem among %q", problems)
			}
		}
	})
}
