package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// MaxPayload is the largest message the embedded NATS takes, in bytes: 4 MiB, four times the
// default of NATS, so that one message can carry some thousand events.
const MaxPayload = 4 << 20

// natsReadyTimeout bounds the wait between the listener being open and the server accepting clients.
const natsReadyTimeout = 30 * time.Second

// NATSConfig says how to run a NATS server inside this process.
type NATSConfig struct {
	// Dir is Weir's data directory (see LockDir); JetStream keeps its files in Dir/nats. Required.
	Dir string
	// Listen is the TCP address for clients, host:port; "" is a free port on 127.0.0.1, and so is
	// port 0 on the given host. There is no authentication: anything but loopback is for closed networks.
	Listen string
	// SyncAlways makes every publish acknowledgement wait for fsync. Without it a message survives the
	// crash of the process as soon as it is acknowledged, but a power cut may take the last two minutes.
	SyncAlways bool
	// ServerName tells the servers of a cluster apart; "" is weir.
	ServerName string
	// Cluster makes the server one of a cluster. Nil: it is alone.
	Cluster *NATSCluster
	// Logger takes the server's own log: notices at debug, warnings and errors as such. Nil is silent.
	Logger *zap.Logger
}

// NATSCluster says how a server reaches the others of its cluster. Clients are told of none of them: they know the
// addresses they were given, which may be those of proxies.
type NATSCluster struct {
	// Name is the same for all servers of the cluster. Required.
	Name string
	// Listen is the TCP address for the other servers, host:port. Required.
	Listen string
	// Routes are the addresses of the other servers, host:port.
	Routes []string
}

// NATS is a running NATS server with JetStream.
type NATS struct {
	server *server.Server
	url    string
}

// StartNATS returns when the server takes clients and JetStream has recovered its streams.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start NATS: no data directory given")
	}
	addr, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	if err := addr.probe(); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	opts := &server.Options{
		ServerName: cmp.Or(cfg.ServerName, "weir"),
		Host:       addr.host,
		Port:       addr.port,
		MaxPayload: MaxPayload,
		JetStream:  true,
		StoreDir:   filepath.Join(cfg.Dir, "nats"),
		SyncAlways: cfg.SyncAlways,
		NoSigs:     true,
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if err := cfg.Cluster.join(opts); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start NATS in %s: %w", opts.StoreDir, err)
	}
	log := newNATSLog(cfg.Logger)
	s.SetLoggerV2(log, false, false, false)

	// Start returns once the listener is open. What stops it from getting there it only logs, as fatal.
	s.Start()
	if err := log.fatal(); err == nil && !s.ReadyForConnections(natsReadyTimeout) {
		log.Fatalf("not ready after %s", natsReadyTimeout)
	}
	if err := log.fatal(); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start NATS in %s: %w", opts.StoreDir, err)
	}
	return &NATS{server: s, url: "nats://" + addr.dialable(portOf(s.Addr()))}, nil
}

// join adds the cluster, if there is one, to the options of a server.
func (c *NATSCluster) join(opts *server.Options) error {
	if c == nil {
		return nil
	}
	addr, err := parseListen(c.Listen)
	if err != nil {
		return err
	}
	if c.Name == "" || addr.port == 0 {
		return errors.New("a cluster needs a name, and an address that the other servers know")
	}
	opts.Cluster = server.ClusterOpts{Name: c.Name, Host: addr.host, Port: addr.port, NoAdvertise: true}
	for _, route := range c.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	return nil
}

// URL is the address for clients on this machine, e.g. nats://127.0.0.1:4222.
func (n *NATS) URL() string { return n.url }

// Close stops the server and returns when its files are closed. Clients see a lost connection.
func (n *NATS) Close() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// natsLog hands the server's log to zap and keeps the first fatal message: an embedded server must
// not end the process, and has no other way to say why it did not start.
type natsLog struct {
	log *zap.SugaredLogger

	mu    sync.Mutex
	first error
}

func newNATSLog(log *zap.Logger) *natsLog {
	if log == nil {
		log = zap.NewNop()
	}
	return &natsLog{log: log.WithOptions(zap.WithCaller(false)).Sugar()}
}

func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = errors.New(strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
	l.log.Errorf(format, v...)
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debugf(format, v...) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warnf(format, v...) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Errorf(format, v...) }
func (l *natsLog) Debugf(format string, v ...any)  { l.log.Debugf(format, v...) }
func (l *natsLog) Tracef(format string, v ...any)  { l.log.Debugf(format, v...) }
