// Package config is how every role of weir gets its settings: one typed [Config],
// filled from layers of rising priority,
//
//	defaults < running instance < YAML file < environment < flags
//
// A command says with [Flags] which settings it takes, and gets them with [Load]:
//
//	cmd := &cobra.Command{Use: "worker", RunE: func(cmd *cobra.Command, _ []string) error {
//		cfg, err := config.Load(cmd)
//		...
//	}}
//	config.Flags(cmd, config.NATS, config.Postgres, config.Shard)
//
// A setting has one name, its path in the YAML file: postgres.max_open. In the environment that
// is WEIR_POSTGRES_MAX_OPEN. Flags exist for what is set often. A name nobody knows is an error in
// every layer, with the place it stands at and the name that was probably meant, so that
// a misspelt limit never passes for a set one. All problems are reported at once.
//
// The running instance is the newest of the files that `weir up` and `weir demo` keep in the state
// directory while they run (see [WriteRunning]): it lets `weir query` in another terminal work without any flag.
package config

import (
	"time"
)

// Config holds the settings of all roles; each role reads the sections it needs.
// The koanf tags are the names of the settings.
type Config struct {
	NATS      NATSConfig      `koanf:"nats"`
	Postgres  PostgresConfig  `koanf:"postgres"`
	HTTP      HTTPConfig      `koanf:"http"`
	Worker    WorkerConfig    `koanf:"worker"`
	Publisher PublisherConfig `koanf:"publisher"`
	Stream    StreamConfig    `koanf:"stream"`
	Alerts    AlertsConfig    `koanf:"alerts"`
	// Streams is a directory of definitions (*.yaml) that replaces the built-in pack.
	// Empty: the built-in pack.
	Streams string `koanf:"streams"`
	// GeoIP is a MaxMind database (.mmdb) of countries and cities, by which events are placed as they are folded.
	// Empty: country and city are Unknown.
	GeoIP string `koanf:"geoip"`
	// PartitionByID makes shard_id a column of answers, for every aggregation whose definition does not say.
	PartitionByID bool      `koanf:"partition_by_id"`
	Log           LogConfig `koanf:"log"`
}

// NATSConfig is the way to the NATS servers.
type NATSConfig struct {
	// URL of a server, or several separated by commas. It may hold a password or a token.
	URL URL `koanf:"url"`
	// Creds is a NATS credentials file (JWT and seed). Empty: none.
	Creds string `koanf:"creds"`
	// Monitor is where the servers' monitoring ports are, http://host:port, several separated by commas: only
	// there they say how often they write to their disks. Empty: not known.
	Monitor URL `koanf:"monitor"`
}

// PostgresConfig is the way to the database, and the limits of its connection pool.
type PostgresConfig struct {
	// URL is postgres://user:password@host:port/database?sslmode=…, or a list of key=value.
	URL URL `koanf:"url"`
	// MaxOpen is the largest number of open connections; at least 2.
	MaxOpen int `koanf:"max_open"`
	// MaxIdle is how many of them stay open while unused; at most MaxOpen, to which it is lowered where it is not
	// given. 0: none.
	MaxIdle int `koanf:"max_idle"`
	// IdleTime closes a connection that was unused for so long. 0: never.
	IdleTime time.Duration `koanf:"idle_time"`
	// Lifetime closes a connection of this age. 0: never.
	Lifetime time.Duration `koanf:"lifetime"`
	// ConnectTimeout bounds the opening of one connection; whole seconds, at least 1s.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
	// StatementTimeout bounds one statement, on the server. 0: no bound.
	StatementTimeout time.Duration `koanf:"statement_timeout"`
}

// HTTPConfig is the HTTP API, from both sides, and where a worker is asked for its health.
type HTTPConfig struct {
	// Listen is the address the API listens at, as host:port; port 0 picks a free one.
	Listen string `koanf:"listen"`
	// URL is where the clients (query, alerts, …) find the API.
	URL URL `koanf:"url"`
	// Health is the address at which a worker answers /healthz and /readyz, as host:port. Empty: none.
	Health string `koanf:"health"`
}

// WorkerConfig says who a worker is and how much it takes into one flush.
// A flush starts when the first of the two bounds is reached, or Linger is over.
type WorkerConfig struct {
	// ShardID is the shard the worker writes to: 1 to 20 characters. No two live workers may have the
	// same. Not given: host name and process id.
	ShardID string `koanf:"shard_id"`
	// ShardPool, in place of a shard id, lets the worker take the first free one of so many shards, named
	// ShardPoolName-1, ShardPoolName-2, …: for workers that have no lasting name. 0: no pool.
	ShardPool     int    `koanf:"shard_pool"`
	ShardPoolName string `koanf:"shard_pool_name"`
	// BatchMessages is the most messages taken into one flush; see also stream.max_ack_pending.
	BatchMessages int `koanf:"batch_messages"`
	// BatchBytes is the most bytes of messages asked of the stream for one flush.
	BatchBytes Bytes `koanf:"batch_bytes"`
	// Memory is about what a worker takes, whatever the backlog. A quarter of it is for what coarser
	// levels lack, the rest of which is read again from the tables; the garbage collector of a process
	// of its own is told of all of it, unless GOMEMLIMIT says otherwise.
	Memory Bytes `koanf:"memory"`
	// Linger is how long the first message of a batch waits for company.
	Linger time.Duration `koanf:"linger"`
}

// PublisherConfig says how `weir gateway` makes messages of events. What comes over HTTP is cut by whoever sends it: a body is a
// message; of that, MaxInFlight and Compression are used.
type PublisherConfig struct {
	// BatchEvents is the most events of a message, 1 to 10,000.
	BatchEvents int `koanf:"batch_events"`
	// BatchBytes is the most bytes of a message before compression, save a single larger event; no more than NATS takes
	// in any case.
	BatchBytes Bytes `koanf:"batch_bytes"`
	// Linger is how long the first event of a message waits for others.
	Linger time.Duration `koanf:"linger"`
	// MaxInFlight is how many messages may be without the acknowledgement of the stream; what comes then waits.
	MaxInFlight int `koanf:"max_in_flight"`
	// Compression is none, gzip or zstd. What comes compressed over HTTP stays as it is.
	Compression string `koanf:"compression"`
}

// StreamConfig is what `weir apply` gives the JetStream streams and their consumer.
type StreamConfig struct {
	// MaxAge removes older messages, folded or not: it is the time to repair an outage, and how
	// far back a restored database can be filled up again. 0: no limit.
	MaxAge time.Duration `koanf:"max_age"`
	// MaxBytes bounds the EVENTS stream; a full stream refuses new messages. 0: no limit.
	MaxBytes Bytes `koanf:"max_bytes"`
	// Replicas is the number of servers that keep each message: 1, 3 or 5.
	Replicas int `koanf:"replicas"`
	// AckWait is after how long a message is delivered again that a worker has neither acknowledged
	// nor kept: what a killed worker had in its hands is missing for that long.
	AckWait time.Duration `koanf:"ack_wait"`
	// MaxAckPending is the most messages in the hands of all workers together. One batch has a 16th
	// of it at most, however large worker.batch_messages is.
	MaxAckPending int `koanf:"max_ack_pending"`
}

// AlertsConfig says what becomes of alerts.
type AlertsConfig struct {
	// Retention is how long an alert is kept once it is recorded; what still fires stays. 0: for ever.
	Retention time.Duration `koanf:"retention"`
}

// LogConfig is what is logged, to standard error.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is console, json, or auto: console on a terminal, else json.
	Format string `koanf:"format"`
}

// Default is the lowest layer. Nothing points to a database: there is no good guess.
func Default() Config {
	return Config{
		NATS: NATSConfig{URL: "nats://127.0.0.1:4222"},
		Postgres: PostgresConfig{
			MaxOpen:          10,
			MaxIdle:          5,
			IdleTime:         5 * time.Minute,
			Lifetime:         time.Hour,
			ConnectTimeout:   5 * time.Second,
			StatementTimeout: 30 * time.Second,
		},
		HTTP: HTTPConfig{
			Listen: "127.0.0.1:8080",
			URL:    "http://127.0.0.1:8080",
		},
		PartitionByID: true,
		Worker: WorkerConfig{
			ShardPoolName: "pool",
			BatchMessages: 25_000,
			BatchBytes:    24 * MiB,
			Memory:        384 * MiB,
			Linger:        250 * time.Millisecond,
		},
		Publisher: PublisherConfig{
			BatchEvents: 100,
			BatchBytes:  256 * KiB,
			Linger:      20 * time.Millisecond,
			MaxInFlight: 256,
			Compression: "none",
		},
		Stream: StreamConfig{
			MaxAge:        7 * 24 * time.Hour,
			MaxBytes:      10 * GiB,
			Replicas:      1,
			AckWait:       5 * time.Second,
			MaxAckPending: 400_000,
		},
		Alerts: AlertsConfig{Retention: 400 * 24 * time.Hour},
		Log:    LogConfig{Level: "info", Format: "auto"},
	}
}
