package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxShardID is how many characters a shard id has at most; it is a column of every table.
const maxShardID = 20

// Validate returns nil, or [Problems]: everything that no role could work with. A missing URL is
// none of these, since not every role needs it.
func (c Config) Validate() error {
	var p Problems
	p = append(p, c.urlProblems()...)
	p = append(p, c.Postgres.problems()...)
	p = append(p, c.Worker.problems()...)
	p = append(p, c.Publisher.problems()...)
	p = append(p, c.Stream.problems()...)
	p.notNegative("alerts.retention", c.Alerts.Retention)
	if !IsListen(c.HTTP.Listen) {
		p.add("http.listen must be %s; it is %q", ListenForm, c.HTTP.Listen)
	}
	if c.HTTP.Health != "" && !IsListen(c.HTTP.Health) {
		p.add("http.health must be %s, or empty for none; it is %q", ListenForm, c.HTTP.Health)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		p.add("log.level must be debug, info, warn or error; it is %q", c.Log.Level)
	}
	if !slices.Contains([]string{"auto", "console", "json"}, c.Log.Format) {
		p.add("log.format must be auto, console or json; it is %q", c.Log.Format)
	}
	if len(p) == 0 {
		return nil // a nil Problems in an error would not be nil
	}
	return p
}

func (p *Problems) add(format string, args ...any) {
	*p = append(*p, fmt.Sprintf(format, args...))
}

func (p *Problems) atLeast(name string, value, least int) {
	if value < least {
		p.add("%s must be at least %d; it is %d", name, least, value)
	}
}

func (p *Problems) notNegative(name string, value time.Duration) {
	if value < 0 {
		p.add("%s must not be negative; it is %s", name, format(value))
	}
}

func (c Config) urlProblems() Problems {
	var p Problems
	for address := range strings.SplitSeq(string(c.NATS.URL), ",") {
		scheme, _, hasScheme := strings.Cut(strings.TrimSpace(address), "://")
		if hasScheme && !slices.Contains([]string{"nats", "tls", "ws", "wss"}, scheme) {
			p.add("nats.url must be nats://host:port (or tls, ws, wss), several separated by commas; it is %q", c.NATS.URL)
			break
		}
	}
	for address := range strings.SplitSeq(string(c.NATS.Monitor), ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if c.NATS.Monitor != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			p.add("nats.monitor must be http://host:port, several separated by commas; it is %q", c.NATS.Monitor)
			break
		}
	}
	if text := string(c.Postgres.URL); text != "" {
		isURL := strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
		if isURL {
			_, err := url.Parse(text)
			isURL = err == nil // the error itself would show the password
		}
		if isList := !strings.Contains(text, "://") && strings.Contains(text, "="); !isURL && !isList {
			p.add("postgres.url must be postgres://user:password@host:port/database, "+
				"with special characters of the password written as %%XX; it is %q", c.Postgres.URL)
		}
	}
	if text := string(c.HTTP.URL); text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			p.add("http.url must be http://host:port or https://host:port; it is %q", c.HTTP.URL)
		}
	}
	return p
}

func (c PostgresConfig) problems() Problems {
	var p Problems
	p.atLeast("postgres.max_open", c.MaxOpen, 2)
	p.atLeast("postgres.max_idle", c.MaxIdle, 0)
	if c.MaxIdle > c.MaxOpen {
		p.add("postgres.max_idle must not be above postgres.max_open; it is %d of %d", c.MaxIdle, c.MaxOpen)
	}
	p.notNegative("postgres.idle_time", c.IdleTime)
	p.notNegative("postgres.lifetime", c.Lifetime)
	p.notNegative("postgres.statement_timeout", c.StatementTimeout)
	if c.ConnectTimeout < time.Second || c.ConnectTimeout%time.Second != 0 {
		p.add("postgres.connect_timeout must be a whole number of seconds, at least 1s; it is %s", format(c.ConnectTimeout))
	}
	return p
}

const (
	leastMemory = 128 * MiB
	// memoryPerBatch: a worker has up to four batches in its hands, as bytes and as columns.
	memoryPerBatch = 8
)

func (c WorkerConfig) problems() Problems {
	var p Problems
	if n := utf8.RuneCountInString(c.ShardID); n > maxShardID {
		p.add("worker.shard_id must have at most %d characters; %q has %d", maxShardID, c.ShardID, n)
	}
	if !utf8.ValidString(c.ShardID) || strings.ContainsFunc(c.ShardID, unprintable) {
		p.add("worker.shard_id must have printable characters and no spaces; it is %q", c.ShardID)
	}
	p = append(p, c.poolProblems()...)
	p.atLeast("worker.batch_messages", c.BatchMessages, 1)
	if c.BatchBytes < MiB {
		p.add("worker.batch_bytes must be at least 1MiB, the size of the largest message; it is %s", c.BatchBytes)
	}
	if c.Memory < memoryPerBatch*c.BatchBytes || c.Memory < leastMemory {
		p.add("worker.memory must be at least %s, and %d times worker.batch_bytes; it is %s", leastMemory, memoryPerBatch, c.Memory)
	}
	if c.Linger <= 0 {
		p.add("worker.linger must be above 0; it is %s", format(c.Linger))
	}
	return p
}

// maxShardPool bounds a pool: each shard has a partition of every table.
const maxShardPool = 1000

func (c WorkerConfig) poolProblems() Problems {
	var p Problems
	if c.ShardPool < 0 || c.ShardPool > maxShardPool {
		p.add("worker.shard_pool must be 0 to %d; it is %d", maxShardPool, c.ShardPool)
		return p
	}
	if name := c.ShardPoolName; name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable) {
		p.add("worker.shard_pool_name must have printable characters and no spaces; it is %q", name)
	}
	if last := c.poolShard(c.ShardPool); utf8.RuneCountInString(last) > maxShardID {
		p.add("worker.shard_pool_name must leave the shard ids at most %d characters; %q has more", maxShardID, last)
	}
	return p
}

// Pool lists the shards of the pool; none without one.
func (c WorkerConfig) Pool() []string {
	pool := make([]string, c.ShardPool)
	for i := range pool {
		pool[i] = c.poolShard(i + 1)
	}
	return pool
}

func (c WorkerConfig) poolShard(n int) string { return c.ShardPoolName + "-" + strconv.Itoa(n) }

// The bounds of a publisher: a message of 10,000 events is beyond what pays, a connection has room for 4,096 messages under way.
const (
	mostBatchEvents = 10_000
	leastBatchBytes = KiB
	mostBatchBytes  = 8 * MiB
	mostLinger      = time.Minute
	mostInFlight    = 4096
)

func (c PublisherConfig) problems() Problems {
	var p Problems
	if c.BatchEvents < 1 || c.BatchEvents > mostBatchEvents {
		p.add("publisher.batch_events must be 1 to %d; it is %d", mostBatchEvents, c.BatchEvents)
	}
	if c.BatchBytes < leastBatchBytes || c.BatchBytes > mostBatchBytes {
		p.add("publisher.batch_bytes must be %s to %s; it is %s", leastBatchBytes, mostBatchBytes, c.BatchBytes)
	}
	if c.Linger <= 0 || c.Linger > mostLinger {
		p.add("publisher.linger must be above 0, and %s at most: an event waits no longer for others; it is %s", format(mostLinger), format(c.Linger))
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > mostInFlight {
		p.add("publisher.max_in_flight must be 1 to %d; it is %d", mostInFlight, c.MaxInFlight)
	}
	if !slices.Contains([]string{"none", "gzip", "zstd"}, c.Compression) {
		p.add("publisher.compression must be none, gzip or zstd; it is %q", c.Compression)
	}
	return p
}

func (c StreamConfig) problems() Problems {
	var p Problems
	p.notNegative("stream.max_age", c.MaxAge)
	if c.MaxBytes < 0 {
		p.add("stream.max_bytes must not be negative; it is %s", c.MaxBytes)
	}
	if !slices.Contains([]int{1, 3, 5}, c.Replicas) {
		p.add("stream.replicas must be 1, 3 or 5; it is %d", c.Replicas)
	}
	if c.AckWait < time.Second {
		p.add("stream.ack_wait must be at least 1s; it is %s", format(c.AckWait))
	}
	p.atLeast("stream.max_ack_pending", c.MaxAckPending, 1)
	return p
}

func unprintable(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }

// ListenForm is what an address to listen at looks like, in words.
const ListenForm = "host:port or :port, with a port from 0 to 65535"

// IsListen reports whether text has that form.
func IsListen(text string) bool {
	_, port, err := net.SplitHostPort(text)
	n, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil && strconv.FormatUint(n, 10) == port
}

// defaultShardID is host name and process id: the same machine gives each of its workers another.
func defaultShardID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return shardID(host, os.Getpid())
}

// shardID joins host and pid; a long host is cut, the pid never is.
func shardID(host string, pid int) string {
	tail := "-" + strconv.Itoa(pid)
	runes := []rune(host)
	return string(runes[:min(len(runes), maxShardID-len(tail))]) + tail
}
