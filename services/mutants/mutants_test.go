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

// patience is what one mutant's tests get: some mutants hang instead of failing.
const patience = 4 * time.Minute

// mutant is one way to break the protocol.
type mutant struct {
	Name string `yaml:"name"`
	Why  string `yaml:"why"` // what would go wrong in production
	Edit []edit `yaml:"edit"`
	// CaughtBy is what must fail: a package, and a pattern of its tests' names.
	CaughtBy struct {
		Package string `yaml:"package"`
		Run     string `yaml:"run"`
		Tags    string `yaml:"tags"`
	} `yaml:"caught_by"`
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
	if len(mutants) < 20 {
		t.Errorf("%d mutants, want at least 20", len(mutants))
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
	for _, m := range load(t) {
		if chosen != "all" && !slices.Contains(strings.Split(chosen, ","), m.Name) {
			continue
		}
		run++
		if t.Run(m.Name, m.mustBeCaught) {
			caught++
		}
	}
	t.Logf("%d of %d mutants caught", caught, run)
	if run == 0 {
		t.Errorf("no mutant is named %q", chosen)
	}
}

// mustBeCaught fails unless a test fails with the mutant, by what it checks and
// not because the mutant does not compile.
func (m mutant) mustBeCaught(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := []string{"test", "-count=1", "-failfast", "-timeout", "2m", "-overlay", m.overlay(t), "-run", m.CaughtBy.Run}
	if m.CaughtBy.Tags != "" {
		args = append(args, "-tags", m.CaughtBy.Tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, m.CaughtBy.Package)...) //nolint:gosec // the arguments are from our own list
	cmd.Dir = root
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	switch text := string(out); {
	case err == nil:
		t.Errorf("not caught by %s of %s: %s", m.CaughtBy.Run, m.CaughtBy.Package, m.Why)
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		t.Errorf("does not compile:\n%s", text)
	case ctx.Err() != nil || strings.Contains(text, "panic: test timed out"):
		t.Logf("caught: the tests hang")
	case !strings.Contains(text, "--- FAIL"):
		t.Errorf("the tests ended otherwise than by a failure:\n%s", text)
	default:
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "--- FAIL") {
				t.Logf("caught: %s", strings.TrimSpace(line))
				break
			}
		}
	}
}
