package embeddedtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/pkg/embedded"
)

const (
	dirPrefix = "weir-test-"
	// abandonedAfter is more than the time between making a directory and locking it.
	abandonedAfter = time.Minute
)

// shared is the cluster of this test binary. A test function is given nothing but its testing.T, so what
// all tests of a binary share can only be a variable of the package.
var shared sharedCluster //nolint:gochecknoglobals // see above

// sharedCluster starts with the first database.
type sharedCluster struct {
	once     sync.Once
	err      error // why it did not start
	dir      string
	lock     *embedded.DirLock
	server   *embedded.Postgres
	database atomic.Int64 // the number of the last one

	mu        sync.Mutex
	templates map[string]*template
}

// database is one of the cluster's.
type database struct{ name, url string }

// template is a database that others are copied from.
type template struct {
	once sync.Once
	name string
	err  error
}

// propertyChecks is how many cases a property is tried with that needs a database, where -rapid.checks does not say:
// each takes as long as hundreds without one.
const propertyChecks = "25"

// atOnce is how many tests of a package run at a time, where -parallel does not say: they wait for servers, for the
// most part.
const atOnce = "4"

// Main runs the tests, stops the cluster they used, removes its files and exits. Call it from TestMain.
func Main(m *testing.M) {
	if dir := os.Getenv(natsDir); dir != "" {
		if err := serveNATS(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "embeddedtest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	_ = flag.Set("rapid.checks", propertyChecks) // an error: the package has no properties
	_ = flag.Set("test.parallel", atOnce)        // before the arguments are read, which may say otherwise
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "embeddedtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func (c *sharedCluster) start() error {
	removeAbandoned()
	var err error
	if c.dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		return err
	}
	if c.lock, err = embedded.LockDir(c.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.server, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: c.dir})
	return err
}

// stop is for after the tests: a cluster that was never started is fine, too.
func (c *sharedCluster) stop() error {
	var errs []error
	if c.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		errs = append(errs, c.server.Close(ctx))
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Release())
	}
	return errors.Join(errs...)
}

// createDatabase makes a database, an empty one unless the options say otherwise.
func (c *sharedCluster) createDatabase(options string) (*database, error) {
	c.once.Do(func() { c.err = c.start() })
	if c.err != nil {
		return nil, c.err
	}
	u, err := url.Parse(c.server.URL())
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("test_%d", c.database.Add(1))
	u.Path = "/" + name
	return &database{name: name, url: u.String()}, c.run("CREATE DATABASE " + name + options)
}

// template returns the name of the database that has the key, made by the first who asks.
func (c *sharedCluster) template(key string, prepare func(url string) error) (name string, err error) {
	c.mu.Lock()
	of := c.templates[key]
	if of == nil {
		if c.templates == nil {
			c.templates = map[string]*template{}
		}
		of = &template{}
		c.templates[key] = of
	}
	c.mu.Unlock()
	of.once.Do(func() {
		var made *database
		if made, of.err = c.createDatabase(""); of.err == nil {
			of.name, of.err = made.name, prepare(made.url)
		}
	})
	return of.name, of.err
}

// run executes one statement in the cluster's first database.
func (c *sharedCluster) run(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	psql := exec.CommandContext(ctx, filepath.Join(c.server.BinDir(), "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command="+statement, c.server.URL())
	if out, err := psql.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", statement, err, out)
	}
	return nil
}

// removeAbandoned clears away the files of test binaries that ended without Main: killed, or timed out.
// What it cannot remove belongs to another user or is in use.
func removeAbandoned() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		if lock, err := embedded.LockDir(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Release()
		}
	}
}
