package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/failpoint"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// workerVariable makes this test binary a worker.
const workerVariable = "WEIR_TEST_WORKER"

// workerSpec says which worker.
type workerSpec struct {
	NATS, Postgres, Shard, Failpoints string
	IdleInTx                          time.Duration
}

// runAsWorker is main of a process that is to be killed.
func runAsWorker(text string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	if err := beWorker(ctx, text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func beWorker(ctx context.Context, text string) error {
	var spec workerSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	set, err := failpoint.Parse(spec.Failpoints)
	if err != nil {
		return err
	}
	catalog, err := definition.Load(proofPack())
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: spec.Postgres, Name: "weir process", IdleInTx: spec.IdleInTx, Failpoints: set})
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := stream.Connect(ctx, stream.Config{URL: spec.NATS})
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := Config{
		ShardID: spec.Shard, Owner: "process", Messages: 200, Linger: 50 * time.Millisecond, Failpoints: set,
		Cadence: func(aggregation.Granularity) time.Duration { return 0 },
	}
	return New(cfg, catalog, db, conn, zap.NewNop()).Run(ctx)
}

// spawn starts a worker in a process of its own. It is killed with the test.
func (p *proof) spawn(shard, failpoints string) (process *exec.Cmd, ended <-chan error) {
	p.t.Helper()
	spec, err := json.Marshal(workerSpec{p.servers.nats, p.servers.postgres, shard, failpoints, p.idleInTx})
	if err != nil {
		p.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerVariable+"="+string(spec))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done, finished := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(finished)
		done <- cmd.Wait()
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-finished
		if p.t.Failed() && out.Len() > 0 {
			p.t.Logf("the worker %s: %s", shard, out.Bytes())
		}
	})
	return cmd, done
}

// exitCode waits for the process.
func (p *proof) exitCode(ended <-chan error) int {
	p.t.Helper()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return 0
	case <-time.After(patience):
		p.t.Fatalf("waited %s for a worker's process to end", patience)
		return 0
	}
}

func TestProcess_KilledMidwayIsTakenOver(t *testing.T) {
	t.Parallel()
	p := newProof(t)
	process, ended := p.spawn("w1", "")
	p.round()
	p.until("something is folded", func() (bool, error) { return p.harness.totals().Events > 0, nil })
	p.round()
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := p.exitCode(ended); code != -1 {
		t.Errorf("it ended with %d before it was killed", code)
	}
	p.supervise("w1", nil) // its shard is free as soon as its connection has ended
	p.round()
	p.finish()
}
