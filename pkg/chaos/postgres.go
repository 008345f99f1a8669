package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"weir/pkg/embedded"
)

// database is a Postgres that loses nothing it has confirmed, and can be crashed.
type database struct {
	dir string

	mu     sync.Mutex
	server *embedded.Postgres
	starts int
}

func startDatabase(ctx context.Context, dir string) (*database, error) {
	d := &database{dir: dir}
	var err error
	d.server, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Durable: true})
	d.starts++
	return d, err
}

func (d *database) url() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server.URL()
}

// crash sends the signal to the server: SIGQUIT is an immediate shutdown. It stays down for the time, then recovers.
func (d *database) crash(ctx context.Context, s syscall.Signal, down time.Duration) error {
	text, err := os.ReadFile(filepath.Join(d.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("find the Postgres to crash: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return fmt.Errorf("find the Postgres to crash: its pid file says %q", line)
	}
	if err := syscall.Kill(pid, s); err != nil {
		return fmt.Errorf("crash Postgres: %w", err)
	}
	pause(ctx, down)
	return d.ensure(context.WithoutCancel(ctx), true)
}

// ensure starts the server again if it has ended, or with wait once it has.
func (d *database) ensure(ctx context.Context, wait bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.server.Done():
	default:
		if !wait {
			return nil
		}
		select {
		case <-d.server.Done():
		case <-time.After(time.Minute):
			return fmt.Errorf("the crashed Postgres has not ended after a minute")
		}
	}
	return d.start(ctx)
}

// restart stops the server in good order and starts it again.
func (d *database) restart(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.start(ctx)
}

// start closes what is there and starts it anew, at the same address; the caller has the lock.
func (d *database) start(ctx context.Context) error {
	cfg := d.server.Config()
	closing, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = d.server.Close(closing) // however it ended: the start says whether it recovers
	server, err := embedded.StartPostgres(ctx, cfg)
	if err != nil {
		return err
	}
	d.server = server
	d.starts++
	return nil
}

func (d *database) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) //nolint:forbidigo // it must end, whatever context has
	defer cancel()
	_ = d.server.Close(ctx) // killed if need be
}
