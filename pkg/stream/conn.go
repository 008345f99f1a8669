package stream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotProvisioned: a stream or the consumer is missing, or was not made by weir apply.
	ErrNotProvisioned = errors.New("not provisioned; run weir apply")
	// ErrGone: the stream or the consumer was deleted or made anew while it was
	// in use. What was fetched from it must not be folded; start again.
	ErrGone = errors.New("stream or consumer was deleted or created anew")
	// ErrClosed: the Conn or the Consumer was closed.
	ErrClosed = errors.New("closed")
)

// Config says how to reach NATS. Only URL is required.
type Config struct {
	URL  string // nats://host:port, or several separated by commas
	Name string // shown in the server's list of connections; default "weir"

	Creds   string // file with a user's JWT and key (nsc); default none
	TLSCA   string // file with the authorities that sign the servers; default the system's
	TLSCert string // file with the client's certificate, together with TLSKey
	TLSKey  string

	// InboxPrefix is where replies arrive. Give every role its own, so that
	// permissions can keep roles from reading each other's replies; default "_INBOX".
	InboxPrefix string

	// MaxInFlight is how many messages may wait for their acknowledgement at
	// once; more make PublishAsync wait. Default 4096.
	MaxInFlight int
	// AckTimeout is how long one attempt to publish waits for the server.
	// Default 5 s.
	AckTimeout time.Duration
	// RetryFor is how long one message is tried again before publishing it
	// fails. Default 0: until the context ends or the Conn is closed. The server
	// itself recognises a repeated message for 2 minutes; the ledger for good.
	RetryFor time.Duration

	Log *zap.Logger // default none
}

const (
	connectTimeout = 5 * time.Second
	drainTimeout   = 5 * time.Second
	reconnectWait  = 100 * time.Millisecond
	reconnectMax   = 3 * time.Second
	apiTimeout     = 5 * time.Second

	maxLoggedErrors = 100 // different asynchronous errors of one connection
)

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "weir"
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 4096
	}
	if c.AckTimeout <= 0 {
		c.AckTimeout = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Conn is one connection to NATS. It reconnects for ever, with jitter. Its
// methods may be used from several goroutines.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	pub    *publisher
	log    *zap.Logger
	closed chan struct{} // closed when the connection is

	closing sync.Once
}

// Connect opens a connection. The first attempt is the only one: when no
// server answers, the error says which URLs were tried (without passwords).
// Once open, the connection survives restarts of NATS until Close.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	if cfg.URL == "" {
		return nil, errors.New("connect to NATS: no URL given")
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redact(cfg.URL), err)
	}
	c := &Conn{log: cfg.Log, closed: make(chan struct{})}
	nc, err := nats.Connect(cfg.URL, c.options(ctx, cfg)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redact(cfg.URL), err)
	}
	c.nc = nc
	c.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err == nil {
		c.pub, err = newPublisher(nc, cfg)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream at %s: %w", redact(cfg.URL), err)
	}
	return c, nil
}

func (c *Conn) options(ctx context.Context, cfg Config) []nats.Option {
	timeout := connectTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.DrainTimeout(drainTimeout),
		nats.ErrorHandler(c.asyncErrors()),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.log.Warn("connection to NATS lost; reconnecting", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.log.Info("connected to NATS again", zap.String("url", nc.ConnectedUrlRedacted()))
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}
	if cfg.Creds != "" {
		options = append(options, nats.UserCredentials(cfg.Creds))
	}
	if cfg.TLSCA != "" {
		options = append(options, nats.RootCAs(cfg.TLSCA))
	}
	if cfg.TLSCert != "" || cfg.TLSKey != "" {
		options = append(options, nats.ClientCert(cfg.TLSCert, cfg.TLSKey))
	}
	if cfg.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(cfg.InboxPrefix))
	}
	return options
}

// asyncErrors logs what NATS reports outside of any call. A denied permission
// shows nowhere else: the call that needed it only times out. The same error is
// logged once, since NATS repeats it with every attempt.
func (c *Conn) asyncErrors() nats.ErrHandler {
	var mu sync.Mutex
	seen := make(map[string]bool)
	first := func(key string) bool {
		mu.Lock()
		defer mu.Unlock()
		if seen[key] || len(seen) >= maxLoggedErrors {
			return false
		}
		seen[key] = true
		return true
	}
	return func(_ *nats.Conn, sub *nats.Subscription, err error) {
		fields := []zap.Field{zap.Error(err)}
		key := err.Error()
		if sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
			fields = append(fields, zap.String("subject", sub.Subject))
			key = nats.ErrSlowConsumer.Error() // the subject is a new inbox each time
		}
		if !first(key) {
			return
		}
		switch {
		case errors.Is(err, nats.ErrPermissionViolation):
			c.log.Error("NATS denies a permission; calls that need it will time out", fields...)
		case errors.Is(err, nats.ErrSlowConsumer):
			c.log.Warn("NATS messages arrive faster than they are taken; some will be delivered again", fields...)
		default:
			c.log.Warn("NATS reports an error", fields...)
		}
	}
}

// Close stops publishing, drains the connection (acks on their way are sent)
// and returns when it is closed, at the latest after some seconds. Messages
// that are not acknowledged by then fail with ErrClosed. Close may be called
// more than once.
func (c *Conn) Close() {
	c.closing.Do(func() {
		c.pub.stop()
		if err := c.nc.Drain(); err != nil {
			c.nc.Close() // not connected: nothing to drain
		}
		select {
		case <-c.closed:
		case <-time.After(2 * drainTimeout):
			c.nc.Close()
		}
		c.pub.abandon()
	})
}

// MaxPayload is the largest message the server takes, in bytes, headers included.
func (c *Conn) MaxPayload() int { return int(c.nc.MaxPayload()) }

// reconnectDelay grows from 0.1 s to 3 s with the rounds through all servers.
func reconnectDelay(attempts int) time.Duration {
	return backoff(attempts, reconnectWait, reconnectMax)
}

// redact removes passwords from a comma-separated list of URLs.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if u, err := url.Parse(part); err == nil {
			part = u.Redacted()
		} else if _, host, ok := strings.Cut(part, "@"); ok {
			part = host
		}
		parts[i] = part
	}
	return strings.Join(parts, ",")
}
