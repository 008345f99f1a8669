package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxConnections is shared by all workers, the API and whoever looks at the data with psql.
	maxConnections = 200
	// maxSocketDir keeps the path of the Unix socket below the 104 bytes macOS allows (Linux: 108).
	maxSocketDir = 100 - len("/.s.PGSQL.65535")
	// portAttempts bounds how often a free port may be lost to another process between finding and using it.
	portAttempts = 3
)

// PostgresConfig says how to run a private PostgreSQL server.
type PostgresConfig struct {
	// Dir is Weir's data directory (see LockDir); everything of PostgreSQL is in Dir/postgres: the
	// cluster (data), the password, the log of this and of the previous run, the Unix socket. Required.
	// Where this process is root, Dir is opened for passing through (mode 0711), because PostgreSQL
	// runs as the user postgres, or nobody.
	Dir string
	// Listen is the TCP address, host:port; "" is a free port on 127.0.0.1, and so is port 0 on the
	// given host. Every connection needs the password.
	Listen string
	// Durable keeps what a commit has confirmed over a power cut. False (fsync, synchronous_commit and
	// full_page_writes off) is for tests and demonstrations only.
	Durable bool
}

// Postgres is a running PostgreSQL server with the empty or kept database "weir", encoded in UTF-8, sorted
// by code point, in UTC.
type Postgres struct {
	cluster cluster
	cfg     PostgresConfig
	addr    listenAddr
	sockets string // directory of the Unix socket
	lock    *DirLock
	process process
	close   sync.Once
	closed  error // what Close returns; valid after close
}

// StartPostgres returns when the server answers. The first start in a directory makes the cluster, which
// takes some seconds; a start after a crash recovers first, which ctx may limit. A server that a killed
// Weir left running in the directory is stopped. Where no server is installed the error is ErrNoPostgres.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	p, err := startPostgres(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, nil
}

func startPostgres(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("no data directory given")
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	p := &Postgres{cfg: cfg}
	if p.addr, err = parseListen(cfg.Listen); err != nil {
		return nil, err
	}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, err
	}
	// A lock of its own: it is what makes any server found in there an orphan, whoever calls us.
	if p.lock, err = LockDir(filepath.Join(cfg.Dir, "postgres")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.release())
		}
	}()
	if p.cluster, err = openCluster(ctx, cfg.Dir, cfg.Durable); err != nil {
		return nil, err
	}
	if err := p.cluster.stopOrphan(ctx); err != nil {
		return nil, err
	}
	if err := p.makeSocketDir(); err != nil {
		return nil, err
	}
	if err := p.launch(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// URL is the address of the database for clients on this machine, with the password:
// postgres://weir:PASSWORD@127.0.0.1:PORT/weir?sslmode=disable.
func (p *Postgres) URL() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(clusterUser, p.cluster.password),
		Host:     p.addr.dialable(p.addr.port),
		Path:     "/" + clusterDatabase,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Config starts the server again, after Close, at the same URL with the same data.
func (p *Postgres) Config() PostgresConfig {
	cfg := p.cfg
	cfg.Listen = p.addr.String()
	return cfg
}

// BinDir is the directory of the server's programs: psql, pg_dump and the rest, of its own version.
func (p *Postgres) BinDir() string { return p.cluster.bin.dir }

// Pid is the process id of the server, the parent of all its processes.
func (p *Postgres) Pid() int { return p.process.Pid() }

// Done is closed when the server has ended, by Close or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.process.Done() }

// Close ends all sessions and stops the server with a checkpoint (fast shutdown). If ctx ends before that
// is done, the server is stopped at once, which is an error though nothing committed is lost: the next
// start recovers. Calls after the first change nothing and return the same.
func (p *Postgres) Close(ctx context.Context) error {
	p.close.Do(func() {
		if err := p.process.stop(ctx); err != nil {
			p.closed = fmt.Errorf("close PostgreSQL in %s: %w", p.cfg.Dir, err)
		}
		if err := p.release(); err != nil && p.closed == nil {
			p.closed = err
		}
	})
	return p.closed
}

// release gives back what outlives the process.
func (p *Postgres) release() error {
	if p.sockets != "" && p.sockets != p.cluster.home {
		if err := os.RemoveAll(p.sockets); err != nil {
			return err
		}
	}
	return p.lock.Release()
}

func (p *Postgres) makeSocketDir() error {
	p.sockets = p.cluster.home
	if len(p.sockets) <= maxSocketDir {
		return nil
	}
	dir, err := os.MkdirTemp("", "weir-pg-")
	if err != nil {
		return fmt.Errorf("make a directory for the Unix socket: %w", err)
	}
	p.sockets = dir
	return p.cluster.account.own(dir)
}

// launch starts the server process and waits until it answers. A port that was not asked for may be lost
// to another process before the server listens on it; then it is another one.
func (p *Postgres) launch(ctx context.Context) error {
	anyPort := p.addr.port == 0
	for attempt := 1; ; attempt++ {
		port, err := p.addr.freePort()
		if err != nil {
			return err
		}
		at := listenAddr{host: p.addr.host, port: port}
		err = p.launchAt(ctx, at)
		if err == nil {
			p.addr = at
			return nil
		}
		if !anyPort || attempt == portAttempts || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
}

func (p *Postgres) launchAt(ctx context.Context, at listenAddr) error {
	log, err := p.cluster.openLog()
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own descriptor
	cmd := p.cluster.command("postgres", p.settings(at)...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.process, err = startProcess(cmd); err != nil {
		return err
	}
	if err := p.waitReady(ctx); err != nil {
		tail := p.cluster.logTail()
		if strings.Contains(tail, "Address already in use") {
			err = fmt.Errorf("%w: %w", err, syscall.EADDRINUSE)
		}
		return fmt.Errorf("%w; the end of %s:\n%s", err, log.Name(), tail)
	}
	return nil
}

func (p *Postgres) settings(at listenAddr) []string {
	settings := []string{
		"listen_addresses=" + at.host,
		"port=" + strconv.Itoa(at.port),
		`unix_socket_directories="` + p.sockets + `"`, // a list: the quotes keep a comma in the path
		"max_connections=" + strconv.Itoa(maxConnections),
		"logging_collector=off",
		"log_checkpoints=off",
		"log_timezone=UTC",
		"timezone=UTC",
	}
	if !p.cfg.Durable {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	args := []string{"-D", p.cluster.data}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// waitReady returns when the server answers, or with how it ended.
func (p *Postgres) waitReady(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.process.Done():
			if p.process.Err() == nil {
				return errors.New("the server ended")
			}
			return fmt.Errorf("the server ended: %w", p.process.Err())
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitTimeout)
			defer cancel()
			return errors.Join(fmt.Errorf("the server does not answer yet: %w", context.Cause(ctx)), p.process.stop(stop))
		case <-tick.C:
			if pid, ready := p.cluster.postmaster(); ready && pid == p.process.Pid() {
				return nil
			}
		}
	}
}
