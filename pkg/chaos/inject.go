package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// inject makes one fault, lets it last, and heals it; the end of ctx heals it at once. The error is the harness's own.
func (r *run) inject(ctx context.Context, s Step) error {
	prefix, _, _ := strings.Cut(s.Fault, "-")
	switch prefix {
	case "worker":
		return r.injectWorker(ctx, s)
	case "alerter":
		r.injectAlerter(ctx, s)
		return nil
	case "postgres":
		return r.injectPostgres(ctx, s)
	case "link":
		r.injectLink(ctx, s)
		return nil
	}
	switch s.Fault {
	case "nats-kill":
		r.killNode(ctx, r.site.node(s.Target), s.For)
	case "nats-stop":
		n := r.site.node(s.Target)
		n.signal(syscall.SIGSTOP)
		r.states.add("NATS servers stopped", 1)
		pause(ctx, s.For)
		n.signal(syscall.SIGCONT)
	case "leader-kill":
		if n := r.site.node(r.site.leader(ctx)); n != nil {
			r.killLeader(ctx, n, s.For)
		}
	case "leader-stepdown":
		for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, time.Second) {
			for _, subject := range []string{"$JS.API.STREAM.LEADER.STEPDOWN.EVENTS", "$JS.API.CONSUMER.LEADER.STEPDOWN.EVENTS.fold"} {
				if _, err := r.site.nc.Request(subject, nil, answerTimeout); err == nil {
					r.states.add("leaders stepped down", 1)
				}
			}
		}
	case "publisher-kill":
		r.sources[s.Target].kill()
		r.states.add("publishers killed", 1)
	case "consumer-reset":
		r.states.add("consumers reset", 1)
		return r.site.resetConsumer(context.WithoutCancel(ctx))
	case "ledger-compact":
		for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
			if _, err := r.site.store.CompactLedger(ctx); err == nil {
				r.states.add("ledger compactions", 1)
			}
		}
	case "disk-full":
		return r.fillDisk(ctx, s)
	default:
		return fmt.Errorf("nobody knows how to make the fault %s", s.Fault)
	}
	return nil
}

func (r *run) injectWorker(ctx context.Context, s Step) error {
	w := r.site.workers[s.Target]
	switch s.Fault {
	case "worker-kill":
		r.catch(ctx, w)
		w.stop(syscall.SIGKILL, termTimeout)
		r.states.add("workers killed", 1)
	case "worker-term":
		w.stop(syscall.SIGTERM, termTimeout)
		r.states.add("workers terminated", 1)
	case "worker-stop":
		w.signal(syscall.SIGSTOP)
		begun := time.Now()
		pause(ctx, s.For)
		if time.Since(begun) > ackWait {
			r.states.add("workers stopped past the ack wait", 1)
		}
		w.signal(syscall.SIGCONT)
		return nil
	}
	pause(ctx, s.For)
	w.release()
	return nil
}

// catch stops a worker at work: one that is killed between two batches shows nothing. In the midst of a flush, if that can be
// had: what is acknowledged then and not committed is lost. Where a leader was killed too, there may be nothing at hand for
// long, so it goes on past the time of the load, which publishes what is left then.
func (r *run) catch(ctx context.Context, w *kept) {
	const choosy = 2500 * time.Millisecond
	begun := time.Now()
	life, end := beyond(ctx)
	defer end()
	for ; life.Err() == nil; pause(life, 10*time.Millisecond) {
		w.signal(syscall.SIGSTOP)
		flushing := r.site.flushStopped(life)
		if flushing {
			r.states.add("workers killed in the midst of a flush", 1)
		}
		if flushing || time.Since(begun) > choosy && r.site.inHand(life) > 0 {
			r.states.add("workers killed while messages were in hand", 1)
			return
		}
		w.signal(syscall.SIGCONT)
	}
}

// beyond is for a fault that must go on until it shows something, if need be past the time of the load, which is what ctx
// lasts: it ends after so long as that takes at most, or when the user stops the run.
func beyond(ctx context.Context) (context.Context, context.CancelFunc) {
	const patience = 15 * time.Second
	life, end := context.WithTimeout(context.WithoutCancel(ctx), patience)
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			end()
		}
	})
	return life, end
}

func (r *run) injectAlerter(ctx context.Context, s Step) {
	a := r.site.alerters[s.Target]
	if s.Fault == "alerter-stop" {
		a.signal(syscall.SIGSTOP)
		r.states.add("alerters stopped", 1)
		pause(ctx, s.For)
		a.signal(syscall.SIGCONT)
		return
	}
	a.stop(syscall.SIGKILL, termTimeout)
	r.states.add("alerters killed", 1)
	pause(ctx, s.For)
	a.release()
}

func (r *run) injectPostgres(ctx context.Context, s Step) error {
	every := func(statement string) {
		for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 300*time.Millisecond) {
			if _, err := r.site.sql.ExecContext(ctx, statement+" FROM pg_stat_activity WHERE application_name SIMILAR TO 'weir (worker|alerter)%'"); err == nil {
				r.states.add("sessions of Postgres disturbed", 1)
			}
		}
	}
	switch s.Fault {
	case "postgres-terminate":
		every("SELECT pg_terminate_backend(pid)")
	case "postgres-cancel":
		every("SELECT pg_cancel_backend(pid)")
	case "postgres-restart":
		return r.site.db.crash(ctx, syscall.SIGQUIT, s.For)
	case "postgres-kill":
		return r.site.db.crash(ctx, syscall.SIGKILL, s.For)
	}
	return nil
}

func (r *run) injectLink(ctx context.Context, s Step) {
	links := r.site.links[s.Target]
	ways := map[string]way{"both": both, "up": up, "down": down}
	set := func(state trouble) {
		for _, l := range links {
			l.set(state, ways[s.Way], s.Delay, s.Bytes)
		}
	}
	switch s.Fault {
	case "link-cut":
		set(cut)
	case "link-hole":
		set(hole)
	case "link-slow":
		set(slow)
	case "link-tear":
		for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
			set(cutAfter)
		}
	}
	pause(ctx, s.For)
	for _, l := range links {
		l.heal()
	}
}

func (r *run) killNode(ctx context.Context, n *node, down time.Duration) {
	n.stop(syscall.SIGKILL, termTimeout)
	r.states.add("NATS servers killed", 1)
	pause(ctx, down)
	n.release()
}

// killLeader kills the server that leads the stream, and starts it again once another leads: one that is back before the
// others have elected, which takes them seconds, may be elected again.
func (r *run) killLeader(ctx context.Context, n *node, down time.Duration) {
	life, end := beyond(ctx)
	defer end()
	n.stop(syscall.SIGKILL, termTimeout)
	r.states.add("NATS servers killed", 1)
	r.states.add("leaders killed", 1)
	pause(ctx, down)
	for ; life.Err() == nil; pause(life, 100*time.Millisecond) {
		if now := r.site.leader(life); now != "" && now != n.name {
			r.states.add("leaders elected in place of one killed", 1)
			break
		}
	}
	n.release()
}

func (s *site) node(name string) *node {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// leader is the name of the server that leads the stream, "" where that cannot be told.
func (s *site) leader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	events, err := s.js.Stream(ctx, eventsStream)
	if err != nil || events.CachedInfo().Cluster == nil {
		return ""
	}
	return events.CachedInfo().Cluster.Leader
}

// consumer is the state of the consumer, nil where that cannot be told.
func (s *site) consumer(ctx context.Context) *jetstream.ConsumerInfo {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	c, err := s.js.Consumer(ctx, eventsStream, consumerName)
	if err != nil {
		return nil
	}
	return c.CachedInfo()
}

// flushStopped reports whether a worker that was just stopped is in a transaction: one waits for its client, and
// goes on waiting.
func (s *site) flushStopped(ctx context.Context) (found bool) {
	const waiting = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'weir worker%' AND state = 'idle in transaction'
		AND state_change < clock_timestamp() - interval '10 ms')`
	pause(ctx, 10*time.Millisecond)
	err := s.sql.QueryRowContext(ctx, waiting).Scan(&found)
	return err == nil && found
}

func (s *site) inHand(ctx context.Context) int {
	if c := s.consumer(ctx); c != nil {
		return c.NumAckPending
	}
	return 0
}

// diskSize is how large the small file systems are, by what they hold.
func diskSize(target string) int64 {
	if target == "postgres" {
		return 3 << 30
	}
	return 1 << 30
}

// fillDisk takes all room on the file system of a server, and then gives it back. What the server did not survive is
// started again.
func (r *run) fillDisk(ctx context.Context, s Step) error {
	dir := r.site.nodes[0].dir
	if s.Target == "postgres" {
		dir = r.site.db.dir
	}
	name := fmt.Sprintf("%s/ballast-%d", dir, time.Now().UnixNano())
	err := fill(ctx, name)
	if ctx.Err() == nil { // else it was not filled to the end
		r.states.add("disks filled", 1)
	}
	pause(ctx, s.For)
	if gone := os.Remove(name); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) { // another fault may have filled it before
		return fmt.Errorf("fill the disk of %s: %w", s.Target, err)
	}
	if s.Target == "postgres" {
		return r.site.db.ensure(context.WithoutCancel(ctx), false)
	}
	// A NATS server that was out of room takes no more messages until it is started again.
	r.site.nodes[0].stop(syscall.SIGTERM, termTimeout)
	r.site.nodes[0].release()
	return nil
}

// fill writes a file until there is no room.
func fill(ctx context.Context, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	block := bytes.Repeat([]byte{'x'}, 1<<20)
	for size := len(block); size > 0 && ctx.Err() == nil; {
		n, err := f.Write(block[:size])
		switch {
		case errors.Is(err, syscall.ENOSPC):
			if size /= 2; n > 0 {
				continue
			}
		case err != nil:
			return err
		}
	}
	return nil
}
