package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

// walk calls visit for every command that people use; those that the programs start themselves are hidden.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	if cmd.Hidden {
		return
	}
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

func TestHelp_EveryCommandIsDescribedAndHasExamples(t *testing.T) {
	t.Parallel()
	walk(newRoot(), func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: Short %t, Long %t, Example %t; all are needed", cmd.CommandPath(), cmd.Short != "", cmd.Long != "", cmd.Example != "")
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the summary ends with a full stop: %q", cmd.CommandPath(), cmd.Short)
		}
	})
}

// TestHelp_ExamplesAreWhatTheCommandsTake reads each example as the command would, up to where it begins its work.
func TestHelp_ExamplesAreWhatTheCommandsTake(t *testing.T) {
	t.Parallel()
	walk(newRoot(), func(shown *cobra.Command) {
		own := false
		for _, args := range invocations(t, shown.Example) {
			cmd, err := parse(args)
			if err != nil {
				t.Errorf("%s: %q: %v", shown.CommandPath(), args, err)
			}
			own = own || cmd != nil && strings.HasPrefix(cmd.CommandPath(), shown.CommandPath())
		}
		if shown.Example != "" && !own {
			t.Errorf("%s: no example calls it", shown.CommandPath())
		}
	})
}

// parse reads arguments as weir does, and returns the command that they are for.
func parse(args []string) (*cobra.Command, error) {
	root := newRoot() // flags keep their values
	root.SetErr(io.Discard)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return nil, err
	}
	if cmd == root && len(rest) > 0 {
		return nil, fmt.Errorf("no such command")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return nil, err
	}
	return cmd, errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups(), cmd.ValidateArgs(cmd.Flags().Args()))
}

// TestDocs_ExamplesAreWhatTheCommandsTake reads the calls of weir in shell blocks of the documents.
func TestDocs_ExamplesAreWhatTheCommandsTake(t *testing.T) {
	t.Parallel()
	found := 0
	for _, path := range []string{"../../README.md", "../../docs/cli.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "\n```")[1:] {
			shell, isShell := strings.CutPrefix(block, "sh\n")
			if !isShell {
				continue
			}
			for _, args := range invocations(t, shell) {
				found++
				if _, err := parse(args); err != nil {
					t.Errorf("%s: %q: %v", path, args, err)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d calls of weir are found", found)
	}
}

// TestDocs_NameEveryCommandAndExitCode: docs/cli.md has a row for each.
func TestDocs_NameEveryCommandAndExitCode(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range newRoot().Commands() {
		if !strings.Contains(string(text), "`"+cmd.Name()) {
			t.Errorf("docs/cli.md does not name `%s`", cmd.Name())
		}
	}
	for _, code := range []int{exitOK, exitFailure, exitUsage, checkError{}.ExitCode()} {
		if !strings.Contains(string(text), fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("docs/cli.md does not say what exit code %d is", code)
		}
	}
}

// invocations are the arguments of each call of weir in a piece of shell: words with their quotes resolved.
func invocations(t *testing.T, shell string) [][]string {
	t.Helper()
	var calls [][]string
	for line := range strings.Lines(strings.ReplaceAll(shell, "\\\n", " ")) {
		commands := [][]string{{}}
		for _, word := range shellWords(t, line) {
			switch last := len(commands) - 1; word {
			case "|", "&&", ";":
				commands = append(commands, []string{})
			case ">": // and the file
				commands = append(commands, []string{})
			default:
				commands[last] = append(commands[last], word)
			}
		}
		for _, command := range commands {
			for len(command) > 0 && strings.Contains(command[0], "=") { // its environment
				command = command[1:]
			}
			if len(command) > 0 && command[0] == "weir" {
				calls = append(calls, command[1:])
			}
		}
	}
	return calls
}

func shellWords(t *testing.T, line string) (words []string) {
	t.Helper()
	var word strings.Builder
	quote, inWord := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '#' && !inWord:
			return words
		case unicode.IsSpace(r):
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		t.Errorf("a quote is not closed: %s", line)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
