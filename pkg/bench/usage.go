package bench

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
)

// CPU is what processes have used, in µs per event.
type CPU struct {
	Worker   float64 `json:"worker"` // all of them; with a bare consumer, that
	NATS     float64 `json:"nats"`
	Postgres float64 `json:"postgres"`
}

// usage is what processes have used up to a moment.
type usage struct {
	worker, nats, postgres time.Duration
	self, machine          time.Duration // this process, and all there is
	wal                    int64         // bytes
	at                     time.Time
}

// look asks what is used so far; ended are processes that are through.
func (b *bed) look(ctx context.Context, running, ended []*process) (u usage, err error) {
	u.at = time.Now()
	for _, p := range ended {
		u.worker += p.cpu()
	}
	if measurable() {
		var failed error
		add := func(to *time.Duration, pid int) {
			used, err := treeCPU(pid)
			*to += used
			failed = errors.Join(failed, err)
		}
		for _, p := range running {
			add(&u.worker, p.Pid())
		}
		add(&u.nats, b.server.Pid())
		own, err := readStat(os.Getpid())
		u.self, u.machine, failed = own.own, readBusy(), errors.Join(failed, err)
		add(&u.postgres, b.postgres.server.Pid())
		if failed != nil {
			return u, failed
		}
	}
	u.wal, err = b.postgres.wal(ctx)
	return u, err
}

// since is what was used between two looks, per event.
func (u usage) since(before usage, events int) (cpu *CPU, wal float64) {
	n := float64(events)
	micros := func(d time.Duration) float64 { return float64(d.Microseconds()) / n }
	if measurable() {
		cpu = &CPU{micros(u.worker - before.worker), micros(u.nats - before.nats), micros(u.postgres - before.postgres)}
	}
	return cpu, float64(u.wal-before.wal) / n
}

// others is the share of all cores that processes had that are none of the measurement.
func (u usage) others(before usage) float64 {
	ours := u.worker + u.nats + u.postgres + u.self - before.worker - before.nats - before.postgres - before.self
	cores := time.Duration(runtime.NumCPU()) * u.at.Sub(before.at)
	return min(max(0, float64(u.machine-before.machine-ours)/float64(cores)), 1)
}

// Memory is the peak of the memory in use, in MB of 2^20 bytes, of one process of a kind: of the largest worker, say.
type Memory struct {
	Worker       float64 `json:"worker"`
	BareConsumer float64 `json:"bare_consumer"`
	NATS         float64 `json:"nats"`
	// Postgres is all its processes together, with the memory that they share counted once; the largest of samples.
	Postgres float64 `json:"postgres"`
}

const sampleEvery = 200 * time.Millisecond

// watch samples the memory of processes and keeps the peaks, until stop is called.
func (m *Memory) watch(workers []*process, nats, postgres int) (stop func()) {
	end := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			for _, p := range workers {
				peak(&m.Worker, readStatus(p.Pid())["VmHWM"]) // none once it has ended
			}
			peak(&m.NATS, readStatus(nats)["VmHWM"])
			peak(&m.Postgres, treeMemory(postgres))
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(end)
		sampling.Wait()
	}
}

// peak keeps the largest that was seen.
func peak(most *float64, bytes int64) { *most = max(*most, rounded(float64(bytes)/(1<<20))) }
