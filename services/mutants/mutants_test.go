package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// root is the repository's, seen from here.
const root = "../.."

// patience is what a test gets, with a mutant and without: longer than it takes on
// a loaded machine, and shorter than tests wait for what never comes.
const patience = 2 * time.Minute

// mutant is one way to break the protocol.
type mutant struct {
	Name string `yaml:"name"`
	Why  string `yaml:"why"` // what would go wrong in production
	Edit []edit `yaml:"edit"`
	// CaughtBy is what must fail with the mutant, and pass without.
	CaughtBy check `yaml:"caught_by"`
}

// check is the tests of a package whose names have a pattern.
type check struct {
	Package string `yaml:"package"`
	Run     string `yaml:"run"`
	Tags    string `yaml:"tags"`
}

// edit replaces a text, which occurs once in a file.
type edit struct {
	File string `yaml:"file"`
	Old  string `yaml:"old"`
	New  string `yaml:"new"`
}

func load(t *testing.T) []mutant {
	t.Helper()
	text, err := os.ReadFile("mutants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var mutants []mutant
	if err := decoder.Decode(&mutants); err != nil {
		t.Fatal(err)
	}
	return mutants
}

// mutated is the file after the edits that are of it.
func (m mutant) mutated(file string) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	text := string(source)
	for _, e := range m.Edit {
		if e.File != file {
			continue
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("%s has this text %d times, want once:\n%s", file, n, e.Old)
		}
		text = strings.Replace(text, e.Old, e.New, 1)
	}
	return []byte(text), nil
}

func (m mutant) files() []string {
	var files []string
	for _, e := range m.Edit {
		if !slices.Contains(files, e.File) {
			files = append(files, e.File)
		}
	}
	return files
}

// overlay writes the mutated files and what tells the go command of them.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for i, file := range m.files() {
		text, err := m.mutated(file)
		if err != nil {
			t.Fatal(err)
		}
		original, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		mutated := filepath.Join(dir, fmt.Sprintf("%d%s", i, filepath.Ext(file)))
		if err := os.WriteFile(mutated, text, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[original] = mutated
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMutants_AreStillEditsOfTheSource(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	mutants := load(t)
	if len(mutants) < 30 {
		t.Errorf("%d mutants, want at least 30", len(mutants))
	}
	for _, m := range mutants {
		if m.Name == "" || m.Why == "" || m.CaughtBy.Package == "" || m.CaughtBy.Run == "" || len(m.Edit) == 0 || seen[m.Name] {
			t.Errorf("mutant %q is not complete, or there twice", m.Name)
		}
		seen[m.Name] = true
		for _, file := range m.files() {
			if _, err := m.mutated(file); err != nil {
				t.Errorf("mutant %s: %v", m.Name, err)
			}
		}
	}
}

func TestMutants_AreCaught(t *testing.T) { //nolint:paralleltest // a mutant at a time: each runs tests that use the whole machine
	chosen := os.Getenv("WEIR_MUTANTS")
	if chosen == "" {
		t.Skip("WEIR_MUTANTS is not set: run `task mutants:run`")
	}
	caught, run := 0, 0
	sound := map[check]bool{} // what passes without a mutant
	for _, m := range load(t) {
		if chosen != "all" && !slices.Contains(strings.Split(chosen, ","), m.Name) {
			continue
		}
		run++
		if t.Run(m.Name, func(t *testing.T) {
			if !sound[m.CaughtBy] {
				m.CaughtBy.mustPass(t)
				sound[m.CaughtBy] = true
			}
			m.mustBeCaught(t)
		}) {
			caught++
		}
	}
	t.Logf("%d of %d mutants caught", caught, run)
	if run == 0 {
		t.Errorf("no mutant is named %q", chosen)
	}
}

// mustPass ends the test unless the check passes without a mutant: what fails
// anyway, or finds nothing to run, catches nobody.
func (c check) mustPass(t *testing.T) {
	t.Helper()
	out, err := c.run(t)
	if err != nil || strings.Contains(out, "[no tests to run]") || strings.Contains(out, "--- SKIP") {
		t.Fatalf("%s of %s does not pass without a mutant (%v):\n%s", c.Run, c.Package, err, out)
	}
}

// mustBeCaught fails unless a test fails with the mutant, by what it checks: not
// because the mutant does not compile, and not by waiting for what never comes,
// for so does a test on a machine that is too slow.
func (m mutant) mustBeCaught(t *testing.T) {
	t.Helper()
	out, err := m.CaughtBy.run(t, "-overlay", m.overlay(t))
	switch {
	case err == nil:
		t.Errorf("not caught by %s of %s: %s", m.CaughtBy.Run, m.CaughtBy.Package, m.Why)
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		t.Errorf("does not compile:\n%s", out)
	case strings.Contains(out, "panic: test timed out"):
		t.Errorf("%s of %s hangs, and a hang proves nothing: name a test that fails", m.CaughtBy.Run, m.CaughtBy.Package)
	case !strings.Contains(out, "--- FAIL"):
		t.Errorf("the tests ended otherwise than by a failure (%v):\n%s", err, out)
	default:
		t.Logf("caught: %s", failure(out))
	}
}

// run runs the check, with more flags of the go command.
func (c check) run(t *testing.T, flags ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience) // that of the tests begins once they are compiled
	defer cancel()
	args := append([]string{"test", "-v", "-vet=off", "-count=1", "-failfast", "-timeout", patience.String(), "-run", c.Run}, flags...)
	if c.Tags != "" {
		args = append(args, "-tags", c.Tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, c.Package)...) //nolint:gosec // the arguments are from our own list
	cmd.Dir = root
	cmd.WaitDelay = 10 * time.Second
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s of %s took longer than %s:\n%s", c.Run, c.Package, 5*patience, text)
	}
	return string(text), err
}

// failure is the line of the first test that failed, and the first thing that it
// said.
func failure(out string) string {
	said := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "--- FAIL") {
			return line + " " + said
		}
		if said == "" && strings.Contains(line, "_test.go:") {
			said = line[:min(len(line), 200)]
		}
	}
	return said
}
