package wire

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/health"
)

// Links are the connections of a role that may be started before the servers
// are: [Links.Open] waits for them, and [Links.Ready] tells meanwhile. The zero
// value has none yet.
type Links struct {
	db   atomic.Pointer[store.DB]
	conn atomic.Pointer[stream.Conn]
}

const (
	openWait    = 200 * time.Millisecond
	openWaitMax = 5 * time.Second
	// openSay is how often it is said what is waited for, unless something
	// else is in the way than before.
	openSay = 30 * time.Second
)

// Open connects to Postgres and to NATS, and waits for whichever does not
// answer, as long as ctx lives. What waiting cannot mend is an error at once: wrong
// credentials or certificates, a database that does not exist. A name that
// cannot be resolved is waited for: it may be that of a container to come.
func (l *Links) Open(ctx context.Context, cfg config.Config, role string, log *zap.Logger) (*store.DB, *stream.Conn, error) {
	db, err := await(ctx, "Postgres", log, func() (*store.DB, error) { return Store(ctx, cfg, role) }, postgresAway)
	if err != nil {
		return nil, nil, err
	}
	l.db.Store(db)
	conn, err := await(ctx, "NATS", log, func() (*stream.Conn, error) { return Stream(ctx, cfg, role, log) }, stream.Unavailable)
	if err != nil {
		return nil, nil, err
	}
	l.conn.Store(conn)
	_, err = await(ctx, "JetStream", log, func() (stream.State, error) { return conn.State(ctx) }, stream.Unavailable)
	if errors.Is(err, stream.ErrNotProvisioned) {
		err = nil // what that means is for the role to say
	}
	return db, conn, err
}

// UnlessStopped is err, or nil where it is only that the role was asked to end.
func UnlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

func postgresAway(err error) bool { return store.Unavailable(err) || store.TimedOut(err) }

// await tries to open something until that succeeds, or fails for good.
func await[T any](ctx context.Context, what string, log *zap.Logger, open func() (T, error), passing func(error) bool) (T, error) {
	var said time.Time
	var reason string
	for pause := openWait; ; pause = min(2*pause, openWaitMax) {
		opened, err := open()
		if err == nil || ctx.Err() != nil || !passing(err) {
			return opened, err
		}
		if text := config.Redact(err.Error()); text != reason || time.Since(said) > openSay {
			log.Warn("waiting for "+what, zap.String("error", text))
			said, reason = time.Now(), text
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// NewLinks are links that are open already.
func NewLinks(db *store.DB, conn *stream.Conn) *Links {
	l := &Links{}
	l.db.Store(db)
	l.conn.Store(conn)
	return l
}

// DB is the pool, nil before it is open.
func (l *Links) DB() *store.DB { return l.db.Load() }

// Conn is the connection to NATS, nil before it is open.
func (l *Links) Conn() *stream.Conn { return l.conn.Load() }

// Close closes what is open.
func (l *Links) Close() {
	if conn := l.conn.Load(); conn != nil {
		conn.Close()
	}
	if db := l.db.Load(); db != nil {
		_ = db.Close()
	}
}

// Ready is what must work before events can be folded and questions answered:
// also before there are connections.
func (l *Links) Ready(catalog *definition.Catalog) []health.Check {
	ask := func(name string, check func(ctx context.Context, db *store.DB, conn *stream.Conn) error) health.Check {
		return health.Check{Name: name, Check: func(ctx context.Context) error {
			db, conn := l.db.Load(), l.conn.Load()
			if db == nil || conn == nil && name == "nats" {
				return errors.New("not connected yet")
			}
			return check(ctx, db, conn)
		}}
	}
	return []health.Check{
		ask("postgres", func(ctx context.Context, db *store.DB, _ *stream.Conn) error { return db.Ping(ctx) }),
		ask("tables", func(ctx context.Context, db *store.DB, _ *stream.Conn) error {
			missing, err := db.Missing(ctx, catalog.Aggregations)
			if err == nil && missing != "" {
				err = errors.New(missing)
			}
			return err
		}),
		ask("nats", func(ctx context.Context, _ *store.DB, conn *stream.Conn) error {
			_, err := conn.State(ctx)
			return err
		}),
	}
}
