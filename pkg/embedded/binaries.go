package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNoPostgres says that this machine has no PostgreSQL server programs, and how to get them.
var ErrNoPostgres = errors.New("no PostgreSQL server found in PATH or the usual places: " +
	"install it with `apt-get install -y postgresql` (Debian, Ubuntu) or `brew install postgresql` (macOS), " +
	"or give the URL of a server of your own")

// postgresPlaces are the directories in which packages put the server's programs, usually not in PATH.
func postgresPlaces() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
		"/usr/pgsql-*/bin",                  // packages of postgresql.org for Red Hat
		"/usr/libexec/postgresql*",          // Alpine
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	}
}

// binaries are the programs of one PostgreSQL version.
type binaries struct {
	dir   string
	major int // e.g. 15
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// findBinaries takes the server in PATH, else the newest in places. A major version other than 0 is the one
// that wrote an existing data directory, which no other version can read.
func findBinaries(places []string, major int) (binaries, error) {
	var others []string
	for _, dir := range candidateDirs(places) {
		b, err := inspectBinaries(dir)
		if err != nil {
			continue // not a complete server: a client-only package, another system's binary
		}
		if major == 0 || b.major == major {
			return b, nil
		}
		others = append(others, fmt.Sprintf("%d in %s", b.major, dir))
	}
	if len(others) > 0 {
		return binaries{}, fmt.Errorf("the data was written by PostgreSQL %d, found only %s: install version %d, or move the data with pg_upgrade",
			major, strings.Join(others, ", "), major)
	}
	return binaries{}, ErrNoPostgres
}

// candidateDirs holds every directory with a program named postgres, the preferred first.
func candidateDirs(places []string) []string {
	var dirs []string
	for _, place := range places {
		found, _ := filepath.Glob(place) // the only error is a malformed pattern, and ours are constants
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return -cmp.Compare(versionIn(a), versionIn(b)) })
	if inPath, err := exec.LookPath("postgres"); err == nil {
		// In PATH it is often a link, with initdb only beside the file it points to.
		if program, err := filepath.EvalSymlinks(inPath); err == nil {
			dirs = slices.Insert(dirs, 0, filepath.Dir(program))
		}
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "postgres"))
		return err != nil
	})
}

func inspectBinaries(dir string) (binaries, error) {
	for _, program := range []string{"initdb", "psql"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return binaries{}, err
		}
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; answers as root, too.
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, err
	}
	major := versionIn(string(out))
	if major == 0 {
		return binaries{}, fmt.Errorf("no version in %q", out)
	}
	return binaries{dir: dir, major: major}, nil
}

// versionIn is the first number in s, 0 if there is none.
func versionIn(s string) int {
	n, _ := strconv.Atoi(regexp.MustCompile(`[0-9]+`).FindString(s))
	return n
}
