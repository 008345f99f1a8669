package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRun_ExitCodeAndMessage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string // part of it; "": nothing is printed
		stderr string
	}{
		{"no command shows the help", nil, 0, "Available Commands:", ""},
		{"a holder of commands shows its help", []string{"config"}, 0, "Available Commands:", ""},
		{"version", []string{"version"}, 0, "weir ", ""},
		{"unknown command", []string{"confg"}, 2, "", `unknown command "confg" for "weir"`},
		{"unknown command further down", []string{"config", "prnt"}, 2, "", `"weir config"; did you mean print?`},
		{"unknown flag", []string{"config", "print", "--nast"}, 2, "", "weir: unknown flag: --nast\nRun 'weir config print --help'"},
		{"missing argument", []string{"healthcheck"}, 2, "", "Run 'weir healthcheck --help' for usage."},
		{"wrong setting", []string{"config", "check", "--log-level", "loud"}, 2, "", "weir: --log-level: log.level must be"},
		{"wrong value of a flag", []string{"report", "--month", "november"}, 2, "", "weir: --month: \"november\" should be a month"},
		{"nobody answers", []string{"top", "--once", "--http", "http://127.0.0.1:1"}, 1, "", "weir: ask the API: "},
		{"nobody answers a report", []string{"report", "--month", "2026-10", "--http", "http://127.0.0.1:1"}, 1, "", "weir: ask the API: "},
		{"wrong definitions directory", []string{"check", "--streams", "no-such-directory"}, 2, "", "weir: streams must be a directory"},
		{"failure", []string{"healthcheck", "nowhere://user:hidden@host"}, 1, "", "weir: check health:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if got := run(t.Context(), tt.args, &stdout, &stderr); got != tt.code {
				t.Errorf("exit code = %d, want %d", got, tt.code)
			}
			if !strings.Contains(stdout.String(), tt.stdout) || (tt.stdout == "" && stdout.Len() > 0) {
				t.Errorf("stdout = %q, want %q in it", stdout.String(), tt.stdout)
			}
			if !strings.Contains(stderr.String(), tt.stderr) || (tt.stderr == "" && stderr.Len() > 0) {
				t.Errorf("stderr = %q, want %q in it", stderr.String(), tt.stderr)
			}
			if strings.Contains(stderr.String(), "hidden") {
				t.Errorf("stderr = %q shows a password", stderr.String())
			}
		})
	}
}

func TestCommands_EachHasItsOwnNameAndASummary(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, cmd := range commands() {
		if seen[cmd.Name()] || cmd.Short == "" {
			t.Errorf("command %q: is a second one, or has no summary", cmd.Name())
		}
		seen[cmd.Name()] = true
	}
}

type checkError struct{}

func (checkError) Error() string { return "lost=1" }
func (checkError) ExitCode() int { return 3 }

func TestExitCode_IsWhatTheErrorAsksFor(t *testing.T) {
	t.Parallel()
	if got := exitCode(fmt.Errorf("demo: %w", checkError{})); got != 3 {
		t.Errorf("exitCode(check) = %d, want 3", got)
	}
	if got := exitCode(errors.New("other")); got != 1 {
		t.Errorf("exitCode(other) = %d, want 1", got)
	}
}
