package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventsPerMessage is small, to make many messages, and so many moments in which a process can die.
const eventsPerMessage = 10

// progress is how far the consumer is.
type progress struct {
	delivered uint64 // messages, each as often as it was delivered
	acked     uint64 // messages, each once
	inHand    uint64 // messages delivered, not acknowledged
}

// consumerOf returns what asks for the progress on the instance.
func consumerOf(t *testing.T, i *instance) func() progress {
	t.Helper()
	conn, err := nats.Connect(i.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), "EVENTS", "fold")
	if err != nil {
		t.Fatal(err)
	}
	return func() progress {
		info, err := consumer.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		inHand := uint64(info.NumAckPending) //nolint:gosec // never negative
		return progress{delivered: info.Delivered.Consumer, acked: info.Delivered.Stream - inHand, inHand: inHand}
	}
}

// holding is how many messages were delivered since then and not acknowledged: those in the hands of the one
// worker that was started then, without what an earlier one has left behind.
func (p progress) holding(then progress) int64 {
	return int64(p.delivered-then.delivered) - int64(p.acked-then.acked) //nolint:gosec // counts
}

// catchAtWork returns with the worker stopped in the midst of messages, after it has folded more than a few.
func catchAtWork(t *testing.T, w *process, ask func() progress, began progress) progress {
	t.Helper()
	const few = 50
	var now progress
	until(t, "the worker to have messages in its hands", func() bool {
		if ask().acked < began.acked+few {
			return !w.running()
		}
		w.signal(syscall.SIGSTOP)
		if now = ask(); now.holding(began) > 0 {
			return true
		}
		w.signal(syscall.SIGCONT)
		return !w.running()
	})
	if !w.running() {
		t.Fatalf("the worker ended by itself:\n%s", w.stderr.String())
	}
	return now
}

// tooLate reports whether everything was folded before round n. At least one
// round must come in the middle, on however slow a machine.
func tooLate(t *testing.T, n int, folded, records int64) bool {
	t.Helper()
	if folded != records {
		return false
	}
	if n == 0 {
		t.Fatal("even the first round comes too late: everything is folded")
	}
	t.Logf("round %d comes too late: everything is folded", n)
	return true
}

func TestWorker_KilledInAReplayAndStartedAgainLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	log, calls := madeLog(t, 6000)
	i := up(t, "WEIR_STREAM_ACK_WAIT=1s", "--workers", "0")
	ask := consumerOf(t, i)
	replay := start(t, "replay", "--nats", i.nats, "--batch", fmt.Sprint(eventsPerMessage), "--rate", "2000", log)
	for n := range 3 {
		began := ask()
		w := i.worker(t, "victim", "WEIR_WORKER_BATCH_MESSAGES=50", "WEIR_WORKER_LINGER=1ms")
		now := catchAtWork(t, w, ask, began)
		folded, acked := i.requests(t), int64(now.acked)*eventsPerMessage //nolint:gosec // a count
		w.kill()
		if tooLate(t, n, folded, calls.Records) {
			break
		}
		t.Logf("kill %d: %d messages in hand, %d events folded of messages not acknowledged", n, now.holding(began), folded-acked)
	}
	i.worker(t, "victim")
	replay.succeeds()
	i.drain(t)
	calls.check(t, i)
}

func TestWorker_EndsInTheMiddleOfAReplayWithoutAnythingHalfDone(t *testing.T) {
	t.Parallel()
	log, calls := madeLog(t, 5000)
	i := up(t, "WEIR_STREAM_ACK_WAIT=1s", "--workers", "0")
	ask := consumerOf(t, i)
	replay := start(t, "replay", "--nats", i.nats, "--batch", fmt.Sprint(eventsPerMessage), "--rate", "2000", log)
	for n := range 2 {
		began := ask()
		w := i.worker(t, "gentle", "WEIR_WORKER_BATCH_MESSAGES=50", "WEIR_WORKER_LINGER=1ms")
		catchAtWork(t, w, ask, began)
		w.signal(syscall.SIGTERM)
		w.signal(syscall.SIGCONT)
		if code := w.within(stopTime); code != 0 {
			t.Errorf("stop %d: exit code %d, want 0", n, code)
		}
		if folded, acked := i.requests(t), int64(ask().acked)*eventsPerMessage; folded != acked { //nolint:gosec // a count
			t.Errorf("stop %d: %d events are folded, those of %d are acknowledged", n, folded, acked)
		} else if tooLate(t, n, folded, calls.Records) {
			break
		}
	}
	i.worker(t, "gentle")
	replay.succeeds()
	i.drain(t)
	calls.check(t, i)
}

// The acknowledgements of what was folded are lost with NATS, so that all of it is delivered again.
func TestWorker_RefusesWhatItHasFoldedWhenTheAcknowledgementsAreLost(t *testing.T) {
	t.Parallel()
	log, calls := madeLog(t, 5000)
	i := up(t, "WEIR_STREAM_ACK_WAIT=1s", "--workers", "0")
	weir(t, "replay", "--nats", i.nats, "--batch", fmt.Sprint(eventsPerMessage), log)
	ask := consumerOf(t, i)
	w := i.worker(t, "w", "WEIR_WORKER_BATCH_MESSAGES=50", "WEIR_WORKER_LINGER=1ms")
	now := catchAtWork(t, w, ask, ask())

	// NATS stands still, while the worker folds what it has in its hands; Postgres is a process of its own.
	i.signal(syscall.SIGSTOP)
	w.signal(syscall.SIGCONT)
	// What NATS counts as delivered may be in its own buffers, and more may have come since: the worker has
	// folded what it has when it folds no more.
	acknowledged := int64(now.acked) * eventsPerMessage //nolint:gosec // a count
	folded, looks := int64(0), 0
	untilEvery(t, askTick, "the worker to fold what it has", func() bool {
		before := folded
		if folded = foldedIn(t, i.postgres); folded != before || folded <= acknowledged {
			looks = 0
		}
		looks++
		return looks == 5
	})
	w.kill()
	i.kill()

	i = upIn(t, i.dir, "WEIR_STREAM_ACK_WAIT=1s", "--workers", "0")
	if acked := int64(consumerOf(t, i)().acked) * eventsPerMessage; acked >= folded { //nolint:gosec // a count
		t.Fatalf("of %d events that were folded %d are acknowledged: the test shows nothing", folded, acked)
	}
	i.worker(t, "w")
	i.drain(t)
	calls.check(t, i)
}

// foldedIn is how many request events are counted, asked without the HTTP API.
func foldedIn(t *testing.T, postgres string) int64 {
	t.Helper()
	out := weir(t, "query", "ApiVersionPerAppAgg", "--postgres", postgres, "--json", "--within", "1990-01-01,2200-01-01",
		"--per", "years", "--group-by", "", "--select", "sum(totalRequestCount)")
	rows := parseAnswer(t, out).Rows
	if len(rows) == 0 {
		return 0
	}
	return number(t, rows[0][0])
}

func TestUp_KilledInAReplayAndStartedAgainLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	log, calls := madeLog(t, 8000)
	settings := []string{"WEIR_STREAM_ACK_WAIT=1s", "WEIR_WORKER_BATCH_MESSAGES=50", "WEIR_WORKER_LINGER=1ms", "--workers", "2"}
	i := up(t, settings...)
	// The replay is still running when NATS comes back, at the same address.
	replay := start(t, "replay", "--nats", i.nats, "--batch", fmt.Sprint(eventsPerMessage), "--rate", "800", log)
	settings = append(settings, "--nats-listen", strings.TrimPrefix(i.nats, "nats://"))
	for n := range 2 {
		before, folded := i.requests(t), int64(0)
		untilEvery(t, askTick, "the workers to fold", func() bool {
			folded = i.requests(t)
			return folded > before+1000 || folded == calls.Records
		})
		if tooLate(t, n, folded, calls.Records) {
			break
		}
		t.Logf("kill %d: %d events are folded, the replay is running: %t", n, folded, replay.running())
		postmaster := postmasterOf(t, i.dir)
		i.kill()
		if n%2 == 0 { // else the next start finds the server that is still ending
			endsByItself(t, postmaster)
		}
		i = upIn(t, i.dir, settings...)
	}
	replay.succeeds()
	i.drain(t)
	calls.check(t, i)
	postmaster := postmasterOf(t, i.dir)
	i.stop()
	endsByItself(t, postmaster)
}

// postmasterOf is the process id of the private Postgres.
func postmasterOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(text), "\n")
	return pid
}

// endsByItself waits until the process is gone. Where nothing tells the kernel to end it with
// its parent (see pkg/embedded), only the next start ends it.
func endsByItself(t *testing.T, pid string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	begun := time.Now()
	until(t, "Postgres to end, process "+pid, func() bool {
		_, err := os.Readlink("/proc/" + pid + "/cwd") // also fails for one that only waits to be reaped
		return err != nil
	})
	t.Logf("Postgres ended after %s", time.Since(begun))
}
