package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"weir/pkg/child"
	"weir/pkg/store"
)

const (
	startTimeout = time.Minute
	termTimeout  = 20 * time.Second
	// answerTimeout is for one request to JetStream.
	answerTimeout = 2 * time.Second
	eventsStream  = "EVENTS"
	alertsStream  = "ALERTS"
	consumerName  = "fold"
)

// site is an installation of Weir in processes of its own, with a link between each two that talk. The harness itself talks to
// the servers directly, by its own means: what it judges must not speak for itself.
type site struct {
	cfg   Config
	plan  Plan
	nodes []*node
	db    *database
	sql   *sql.DB
	store *store.DB // for what a person would do with a command
	nc    *nats.Conn
	js    jetstream.JetStream

	workers  map[string]*kept
	alerters map[string]*kept
	links    map[string][]*link // by name: w1-nats, w1-postgres, gw-1-nats, n1-n2

	life context.Context // of the kept processes
	end  context.CancelFunc
	kept sync.WaitGroup
}

// node is a NATS server.
type node struct {
	*kept
	addr string // host:port for clients
	dir  string
}

// startSite returns when everything is provisioned; workers and alerters do not run yet.
func startSite(ctx context.Context, cfg Config, plan Plan) (_ *site, err error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &site{cfg: cfg, plan: plan, workers: map[string]*kept{}, alerters: map[string]*kept{}, links: map[string][]*link{}, life: life, end: end}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := writeDefinitions(s.path("streams")); err != nil {
		return nil, err
	}
	if err := s.startNATS(ctx); err != nil {
		return nil, err
	}
	if s.db, err = startDatabase(ctx, s.path("db")); err != nil {
		return nil, err
	}
	// The driver is registered by pkg/store.
	if s.sql, err = sql.Open("postgres", s.db.url()); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, store.Config{URL: s.db.url(), Name: "weir chaos"}); err != nil {
		return nil, err
	}
	if err := s.provision(ctx); err != nil {
		return nil, err
	}
	return s, errors.Join(s.addWorkers(), s.addAlerters())
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// keep runs a process until the site closes.
func (s *site) keep(k *kept) {
	s.kept.Go(func() { k.keep(s.life) })
}

func (s *site) startNATS(ctx context.Context) error {
	number := 1
	if s.plan.Topology == R3 {
		number = 3
	}
	addresses, err := freeAddresses(2 * number)
	if err != nil {
		return err
	}
	clients, cluster := addresses[:number], addresses[number:]
	var urls []string
	for i := range number {
		n := &node{addr: clients[i], dir: s.path(fmt.Sprintf("n%d", i+1))}
		args := []string{"chaos", "nats-node", "--dir", n.dir, "--listen", n.addr, "--name", fmt.Sprintf("n%d", i+1)}
		if number > 1 {
			routes, err := s.routes(i, cluster)
			if err != nil {
				return err
			}
			args = append(args, "--cluster-listen", cluster[i], "--routes", strings.Join(routes, ","))
		}
		name := fmt.Sprintf("n%d", i+1)
		n.kept = newKept(name, s.cfg.Program, s.path(name+".log"), child.Environment(s.path()), args...)
		s.nodes = append(s.nodes, n)
		urls = append(urls, "nats://"+n.addr)
		s.keep(n.kept)
	}
	s.nc, err = nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.Timeout(2*time.Second), nats.PingInterval(2*time.Second))
	if err != nil {
		return fmt.Errorf("connect to the NATS servers: %w", err)
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(answerTimeout)); err != nil {
		return err
	}
	return s.retry(ctx, "JetStream to answer", func(ctx context.Context) error {
		_, err := s.js.AccountInfo(ctx)
		return err
	})
}

// routes are the addresses at which node i finds the others: links.
func (s *site) routes(i int, cluster []string) ([]string, error) {
	var routes []string
	for j, target := range cluster {
		if j == i {
			continue
		}
		name := fmt.Sprintf("n%d-n%d", min(i, j)+1, max(i, j)+1)
		l, err := openLink(name, target)
		if err != nil {
			return nil, err
		}
		s.links[name] = append(s.links[name], l)
		routes = append(routes, l.addr())
	}
	return routes, nil
}

// natsLinks opens the links of a process to every NATS server, and returns the URL.
func (s *site) natsLinks(name string) (string, error) {
	var urls []string
	for _, n := range s.nodes {
		l, err := openLink(name+"-nats", n.addr)
		if err != nil {
			return "", err
		}
		s.links[name+"-nats"] = append(s.links[name+"-nats"], l)
		urls = append(urls, "nats://"+l.addr())
	}
	return strings.Join(urls, ","), nil
}

// settings is the environment of a weir of this site.
func (s *site) settings(more ...string) []string {
	replicas := "1"
	if s.plan.Topology == R3 {
		replicas = "3"
	}
	return child.Environment(s.path(), append([]string{
		"WEIR_STREAMS=" + s.path("streams"), "WEIR_LOG_FORMAT=json", "WEIR_STREAM_ACK_WAIT=" + ackWait.String(),
		"WEIR_STREAM_REPLICAS=" + replicas, "WEIR_STREAM_MAX_BYTES=0", "WEIR_POSTGRES_CONNECT_TIMEOUT=3s", "WEIR_POSTGRES_STATEMENT_TIMEOUT=20s",
	}, more...)...)
}

// weir runs a command of the site, directly at the servers, and returns what it printed.
func (s *site) weir(ctx context.Context, args ...string) ([]byte, error) {
	var urls []string
	for _, n := range s.nodes {
		urls = append(urls, "nats://"+n.addr)
	}
	cmd := exec.CommandContext(ctx, s.cfg.Program, args...)
	cmd.Env = s.settings("WEIR_NATS_URL="+strings.Join(urls, ","), "WEIR_POSTGRES_URL="+s.db.url())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("weir %s: %w:\n%s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

// provision applies the definitions, and makes the time short in which the stream itself knows a message that is
// published again: what comes later only the ledger can refuse.
func (s *site) provision(ctx context.Context) error {
	err := s.retry(ctx, "weir apply", func(context.Context) error {
		_, err := s.weir(ctx, "apply")
		return err
	})
	if err != nil {
		return err
	}
	return s.retry(ctx, "the stream to be changed", func(ctx context.Context) error {
		events, err := s.js.Stream(ctx, eventsStream)
		if err != nil {
			return err
		}
		config := events.CachedInfo().Config
		config.Duplicates = dedupWindow
		_, err = s.js.UpdateStream(ctx, config)
		return err
	})
}

// retry repeats what servers may refuse while they come up.
func (s *site) retry(ctx context.Context, what string, f func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := func() error {
			once, cancel := context.WithTimeout(limit, answerTimeout) // nobody may be there to hear it
			defer cancel()
			return f(once)
		}()
		if err == nil {
			return nil
		}
		if limit.Err() != nil {
			return fmt.Errorf("waited %s for %s: %w", startTimeout, what, err)
		}
		pause(limit, 200*time.Millisecond)
	}
}

// heal ends all trouble: links are fine, processes run.
func (s *site) heal(ctx context.Context) error {
	for _, links := range s.links {
		for _, l := range links {
			l.heal()
		}
	}
	for _, n := range s.nodes {
		n.signal(syscall.SIGCONT)
		n.release()
	}
	if err := s.db.ensure(ctx, false); err != nil {
		return err
	}
	s.startRoles()
	return nil
}

// restart stops everything in good order and starts it again.
func (s *site) restart(ctx context.Context) error {
	s.stopRoles()
	for _, n := range s.nodes {
		n.stop(syscall.SIGTERM, termTimeout)
	}
	if err := s.db.restart(ctx); err != nil {
		return err
	}
	for _, n := range s.nodes {
		n.release()
	}
	s.startRoles()
	return s.retry(ctx, "the stream to have a leader", func(ctx context.Context) error {
		_, err := s.js.Stream(ctx, eventsStream)
		return err
	})
}

// resetConsumer makes everything in the stream be delivered again. The workers find that their consumer is gone, and end; they are
// started again.
func (s *site) resetConsumer(ctx context.Context) error {
	err := s.retry(ctx, "the consumer to be deleted", func(ctx context.Context) error {
		err := s.js.DeleteConsumer(ctx, eventsStream, consumerName)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.provision(ctx)
}

// close ends every process.
func (s *site) close() {
	s.end()
	s.kept.Wait()
	if s.nc != nil {
		s.nc.Close()
	}
	if s.sql != nil {
		_ = s.sql.Close()
	}
	if s.store != nil {
		_ = s.store.Close()
	}
	if s.db != nil && s.db.server != nil {
		s.db.close()
	}
	for _, links := range s.links {
		for _, l := range links {
			l.close()
		}
	}
}

// freeAddresses are host:port that were free a moment ago.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		open = append(open, l)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// makeDir makes the directory of a run; Postgres, which never runs as root, must be able to pass through it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // passing through is all it allows
		return fmt.Errorf("make the directory of the run: %w", err)
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // the same
}
