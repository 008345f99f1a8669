// Package local runs all of Weir in one process: NATS, a private Postgres,
// workers, the auditor, the alerter and the HTTP API. `weir up` and `weir demo` are made of it.
package local

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/pkg/audit"
	"weir/pkg/definition"
	"weir/pkg/embedded"
	"weir/pkg/evaluator"
	"weir/pkg/notify"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/pkg/worker"
	"weir/services/api"
	"weir/services/apply"
	"weir/services/auditor"
	"weir/services/config"
	"weir/services/durability"
	"weir/services/httpserver"
	"weir/services/metrics"
	"weir/services/version"
	"weir/services/wire"
	workerrole "weir/services/worker"
)

// Options say what to run.
type Options struct {
	Role           string // of the process, for Prometheus: up or demo
	Dir            string // holds everything that lasts; one process at a time
	Workers        int    // number of workers, each with a shard of its own; 0 for none
	ShardPrefix    string // the shards are this and 1, 2, …; "" is w
	NATSListen     string // host:port; "" a free port
	PostgresListen string // host:port; "" a free port
	Backfill       bool   // aggregations that are added get what the stream still holds of before
	Durable        bool   // both servers keep what they confirmed over a power cut
	Catalog        *definition.Catalog
	Notifiers      []*notify.Target // that are told of alerts
	// Settings hold the rest: an external Postgres's URL ("" for a private
	// one), the address of the HTTP API, the sizes of batches.
	Settings config.Config
	// Plan receives what is provisioned, line by line.
	Plan io.Writer
	Log  *zap.Logger
}

// Instance is a running Weir.
type Instance struct {
	HTTPURL, NATSURL, PostgresURL string
	Shards                        []string // of the workers
	DB                            *store.DB
	Audit                         *sql.DB // for auditors
	Conn                          *stream.Conn
	Catalog                       *definition.Catalog // of the options, bound to the tables
	Metrics                       *metrics.Registry   // for what the caller counts beside

	options  Options
	lock     *embedded.DirLock
	http     net.Listener
	nats     *embedded.NATS
	postgres *embedded.Postgres // nil with an external one
	conns    []*stream.Conn     // of the workers
	stop     context.CancelFunc
	roles    *errgroup.Group
	failed   chan error // what a role ended with; closed when all have ended

	closeOnce sync.Once
	closed    error
}

const (
	connectionsPerWorker = 4 // the lease, a flush, the relay, one to spare
	connectionsOfAlerter = 4 // its partitions, what it reads and writes, the relay
	stopTimeout          = 20 * time.Second
	auditEvery           = 10 * time.Second
)

// Start returns when everything is up: servers, provisioned streams and
// tables, workers, API. On an error nothing is left running.
func Start(ctx context.Context, options Options) (*Instance, error) {
	i := &Instance{options: options}
	if err := i.start(ctx); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Instance) start(ctx context.Context) error {
	if err := i.startServers(ctx); err != nil {
		return err
	}
	if err := i.connect(ctx); err != nil {
		return err
	}
	if err := apply.Provision(ctx, i.options.Plan, i.options.Settings, i.options.Catalog, store.PlanOptions{Backfill: i.options.Backfill}, i.DB, i.Conn); err != nil {
		return err
	}
	var err error
	if i.Catalog, err = wire.Bind(ctx, i.options.Catalog, i.DB); err != nil {
		return err
	}
	if err := i.reportDurability(ctx); err != nil {
		return err
	}
	return i.startRoles(ctx)
}

// reportDurability says what is less durable than promised; with Durable alone
// is anything promised.
func (i *Instance) reportDurability(ctx context.Context) error {
	if !i.options.Durable {
		return nil
	}
	return durability.Report(ctx, i.DB, i.Conn, durability.Sync{Always: true}, i.options.Log)
}

func (i *Instance) startServers(ctx context.Context) (err error) {
	o := &i.options
	if i.lock, err = embedded.LockDir(o.Dir); err != nil {
		return err
	}
	if err = i.listen(ctx); err != nil {
		return err
	}
	if i.nats, err = embedded.StartNATS(embedded.NATSConfig{Dir: o.Dir, Listen: o.NATSListen, Logger: o.Log, SyncAlways: o.Durable}); err != nil {
		return err
	}
	i.NATSURL = i.nats.URL()
	i.PostgresURL = string(o.Settings.Postgres.URL)
	if i.PostgresURL == "" {
		i.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: o.Dir, Listen: o.PostgresListen, Durable: o.Durable})
		if err != nil {
			return err
		}
		i.PostgresURL = i.postgres.URL()
	}
	o.Settings.NATS.URL = config.URL(i.NATSURL)
	o.Settings.Postgres.URL = config.URL(i.PostgresURL)
	o.Settings.Postgres.MaxOpen += connectionsPerWorker*o.Workers + connectionsOfAlerter
	return nil
}

// listen takes the address of the API, and looks whether Postgres, whose start
// takes long, would get its own. NATS, which starts first, tells at once.
func (i *Instance) listen(ctx context.Context) (err error) {
	if i.http, err = httpserver.Listen(ctx, i.options.Settings.HTTP.Listen); err != nil {
		return err
	}
	i.HTTPURL = httpserver.URL(i.http)
	if i.options.PostgresListen == "" || i.options.Settings.Postgres.URL != "" {
		return nil
	}
	probe, err := (&net.ListenConfig{}).Listen(ctx, "tcp", i.options.PostgresListen)
	if err != nil {
		return fmt.Errorf("listen for Postgres: %w", err)
	}
	return probe.Close()
}

// CheckListen is what is wrong with the value of a flag that says where one of
// the servers listens.
func CheckListen(flag, address string) config.Problems {
	if address == "" || config.IsListen(address) {
		return nil
	}
	return config.Problems{fmt.Sprintf("%s: %q should be %s", flag, address, config.ListenForm)}
}

func (i *Instance) connect(ctx context.Context) (err error) {
	if i.DB, err = wire.Store(ctx, i.options.Settings, "local"); err != nil {
		return err
	}
	if i.Audit, err = wire.Pool(ctx, i.options.Settings, "auditor"); err != nil {
		return err
	}
	i.Conn, err = wire.Stream(ctx, i.options.Settings, "local", i.options.Log)
	return err
}

// startRoles starts the workers and the API. They do not end with ctx but
// with Close, so that a caller may drain first.
func (i *Instance) startRoles(ctx context.Context) error {
	o := i.options
	workers := make([]*worker.Worker, o.Workers)
	counted, status, evaluated, sent := worker.NewMetrics(), auditor.NewStatus(), evaluator.NewMetrics(), notify.NewMetrics()
	i.Metrics = metrics.New(o.Role)
	i.Metrics.MustRegister(counted, status, evaluated, sent)
	i.Metrics.Links(wire.NewLinks(i.DB, i.Conn))
	for n := range workers {
		conn, err := wire.Stream(ctx, o.Settings, "worker", o.Log)
		if err != nil {
			return err
		}
		i.conns = append(i.conns, conn)
		cfg := workerrole.Config(o.Settings)
		cfg.ShardID = cmp.Or(o.ShardPrefix, "w") + strconv.Itoa(n+1)
		cfg.Metrics = counted
		i.Shards = append(i.Shards, cfg.ShardID)
		workers[n] = worker.New(cfg, i.Catalog, i.DB, conn, o.Log)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	i.stop = stop
	i.failed = make(chan error, 1)
	i.roles, life = errgroup.WithContext(life)
	for _, w := range workers {
		i.roles.Go(func() error { return w.Run(life) })
	}
	i.roles.Go(func() error {
		return auditor.Run(life, audit.New(i.Audit, i.Conn, audit.Config{Version: version.String()}), auditEvery, status, o.Log)
	})
	evaluation := evaluator.New(evaluator.Config{Owner: wire.Owner(), Metrics: evaluated}, i.Catalog.Rules, i.DB, i.Conn, o.Log)
	i.roles.Go(func() error { return evaluation.Run(life) })
	i.roles.Go(func() error {
		return notify.New(i.DB, notify.Config{Targets: o.Notifiers, Silenced: i.DB.Silenced, Metrics: sent}, o.Log).Run(life)
	})
	i.roles.Go(func() error { return api.Serve(life, i.http, i.Catalog, i.DB, i.Conn, i.Metrics, o.Log) })
	i.roles.Go(func() error { i.backfill(life); return nil })
	if i.postgres != nil {
		i.roles.Go(func() error {
			select {
			case <-life.Done():
				return nil
			case <-i.postgres.Done():
				return errors.New("the private Postgres ended by itself; its log is " + filepath.Join(o.Dir, "postgres", "postgres.log"))
			}
		})
	}
	go func() {
		if err := i.roles.Wait(); err != nil {
			i.failed <- err
		}
		close(i.failed)
	}()
	return nil
}

// backfill sees through what is open, from this start or an earlier one.
func (i *Instance) backfill(ctx context.Context) {
	o := i.options
	err := apply.Backfill(ctx, logLines{o.Log}, o.Catalog, i.DB, i.Conn, o.Log)
	if err != nil && ctx.Err() == nil {
		o.Log.Warn("a backfill is not complete; it goes on at the next start", zap.Error(err))
	}
}

// logLines logs what is written to it, a line at a time.
type logLines struct{ log *zap.Logger }

func (w logLines) Write(line []byte) (int, error) {
	w.log.Info(strings.TrimSpace(string(line)))
	return len(line), nil
}

// Failed delivers the error with which a role ended before Close, if any.
func (i *Instance) Failed() <-chan error { return i.failed }

// Close stops the workers, which finish the batch in hand, then the API, the
// connections and the servers, and frees the directory. It may be called more
// than once.
func (i *Instance) Close() error {
	i.closeOnce.Do(func() { i.closed = i.close() })
	return i.closed
}

func (i *Instance) close() error {
	var failures []error
	if i.stop != nil {
		i.stop()
		_ = i.roles.Wait() // Failed has told of it
	}
	if i.http != nil {
		_ = i.http.Close() // it is closed already where the API has run
	}
	for _, conn := range i.conns {
		conn.Close()
	}
	if i.Conn != nil {
		i.Conn.Close()
	}
	if i.Audit != nil {
		failures = append(failures, i.Audit.Close())
	}
	if i.DB != nil {
		failures = append(failures, i.DB.Close())
	}
	if i.nats != nil {
		i.nats.Close()
	}
	if i.postgres != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		failures = append(failures, i.postgres.Close(ctx))
	}
	if i.lock != nil {
		failures = append(failures, i.lock.Release())
	}
	return errors.Join(failures...)
}

// Announce leaves the URLs where the commands of other terminals find them,
// until forget is called. Where that cannot be written, they need the URLs as
// flags; that is no reason not to run.
func (i *Instance) Announce() (forget func()) {
	dir, err := embedded.DefaultDir()
	if err == nil {
		err = config.WriteRunning(dir, config.Running{HTTP: config.URL(i.HTTPURL), NATS: config.URL(i.NATSURL), Postgres: config.URL(i.PostgresURL)})
	}
	if err != nil {
		i.options.Log.Warn("other commands will not find this instance by themselves: give them its URLs", zap.Error(err))
		return func() {}
	}
	return func() { _ = config.RemoveRunning(dir) } // a stale file counts for nothing
}
