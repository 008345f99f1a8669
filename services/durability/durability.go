// Package durability says what a deployment really keeps when a process, a
// machine or its power fails, beside what Weir promises: that what was
// acknowledged stays, and is counted once. `weir durability` prints it, and
// the roles log what is less when they start.
package durability

import (
	"fmt"
	"time"

	"weir/pkg/store"
	"weir/pkg/stream"
)

// Verdict is how a finding stands to the promise.
type Verdict string

// The verdicts.
const (
	Enough  Verdict = "ok"
	Less    Verdict = "LESS"    // than the promise
	Unknown Verdict = "unknown" // it cannot be seen from here
	Note    Verdict = "note"    // the promise does not rest on it, but it is good to know
)

// Finding is one thing that the promise rests on.
type Finding struct {
	What    string  `json:"what"`
	Is      string  `json:"is"`      // what was found
	Promise string  `json:"promise"` // what rests on it
	Verdict Verdict `json:"verdict"`
	Advice  string  `json:"advice,omitempty"` // what to do; "": nothing
}

// Sync is how often the NATS servers write what they have acknowledged to their
// disks.
type Sync struct {
	Always   bool          // before they acknowledge
	Interval time.Duration // otherwise; 0: not known
	Why      string        // why it is not known
}

func (s Sync) String() string {
	switch {
	case s.Always:
		return "always"
	case s.Interval > 0:
		return "every " + s.Interval.String()
	}
	return "unknown: " + s.Why
}

// LessThanPromised are the findings with less than the promise.
func LessThanPromised(findings []Finding) (less []Finding) {
	for _, f := range findings {
		if f.Verdict == Less {
			less = append(less, f)
		}
	}
	return less
}

// judge is ok where it is good, else less, with an advice.
func judge(good bool, what, is, promise, advice string) Finding {
	if good {
		return Finding{what, is, promise, Enough, ""}
	}
	return Finding{what, is, promise, Less, advice}
}

// OfPostgres judges a database.
func OfPostgres(d store.Durability) []Finding {
	const cut = "commits survive a power cut"
	found := []Finding{
		judge(d.Fsync == "on", "Postgres fsync", d.Fsync, cut,
			"counts of events that are acknowledged can be lost on a power cut, or the whole database: set fsync = on"),
		judge(d.SynchronousCommit != "off", "Postgres synchronous_commit", d.SynchronousCommit, cut,
			"the last commits can be lost in a crash, after their messages were acknowledged: set synchronous_commit = on, for Weir's user too"),
		judge(d.FullPageWrites == "on", "Postgres full_page_writes", d.FullPageWrites, "tables are whole after a power cut",
			"pages can be torn by a power cut: set full_page_writes = on, unless the file system never tears them"),
		{"Postgres data_checksums", d.DataChecksums, "a damaged page is noticed", Note, ""},
		{"Postgres wal_level", d.WALLevel, "standbys and backups with point-in-time recovery", Note, ""},
	}
	if d.DataChecksums != "on" {
		found[3].Advice = "pg_checksums --enable on a stopped server makes Postgres notice damaged pages"
	}
	if d.WALLevel == "minimal" {
		found[4].Advice = "with wal_level = minimal there can be no standby"
	}
	standbys := Finding{"Postgres synchronous_standby_names", d.StandbyNames, "a failover loses no commit", Note, ""}
	if d.StandbyNames == "" || d.SynchronousCommit == "local" {
		standbys.Is = orNone(d.StandbyNames)
		standbys.Advice = "a failover to a standby can lose the last commits; the stream still has the messages, and they have to be folded again"
	}
	found = append(found, standbys)
	if d.Standby {
		found = append([]Finding{judge(false, "Postgres role", "standby", "it takes writes", standbyAdvice)}, found...)
	}
	return found
}

const standbyAdvice = "the Postgres server is a standby, in recovery: give the URL of the primary, or promote it"

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// OfNATS judges the stream EVENTS and its consumer.
func OfNATS(d stream.Durability, s Sync) []Finding {
	storage := "file"
	switch {
	case d.Memory:
		storage = "memory"
	case d.Async:
		storage = "file, written after the acknowledgement"
	}
	full := "refuses new messages"
	if d.DropsOld {
		full = "drops the oldest messages"
	}
	kept := "until the stream's limits"
	if d.DropsAcked {
		kept = "until it is acknowledged"
	}
	purge, deliveries := "refused", "without end"
	if d.Purgeable {
		purge = "possible"
	}
	if d.MaxDeliver > 0 {
		deliveries = fmt.Sprint(d.MaxDeliver)
	}
	return []Finding{
		judge(!d.Memory && !d.Async, "NATS storage of EVENTS", storage, "acknowledged messages survive a crash of the server",
			"acknowledged messages can be lost when the server ends: the stream is not as `weir apply` makes it"),
		ofSync(d, s),
		ofReplicas(d),
		judge(!d.DropsOld, "NATS, when EVENTS is full", full, "no message is dropped before it is folded", "run `weir apply`"),
		judge(!d.DropsAcked, "NATS keeps a message", kept, "a restored database is filled up again", "the stream is not as `weir apply` makes it: make it anew"),
		judge(!d.Purgeable, "NATS purge and delete", purge, "nobody removes what is not folded", "the stream is not as `weir apply` makes it: make it anew"),
		judge(d.MaxDeliver <= 0, "NATS deliveries", deliveries, "a message is delivered until it is folded", "run `weir apply`"),
	}
}

func ofSync(d stream.Durability, s Sync) Finding {
	f := Finding{"NATS sync_interval", s.String(), "acknowledged publishes survive a power cut", Enough, ""}
	switch {
	case s.Always && d.Async:
		f.Is = "always, but not for this stream"
		fallthrough
	case !s.Always && s.Interval > 0:
		f.Verdict = Less
		f.Advice = fmt.Sprintf("acknowledged publishes can be lost on a power cut: NATS writes them to disk every %s; set sync_interval: always", s.Interval)
		if d.Replicas > 1 {
			f.Advice += ", unless most replicas never lose power at once"
		}
	case !s.Always:
		f.Verdict = Unknown
		f.Advice = "without sync_interval: always in the servers' settings, a power cut can lose up to 2 minutes of acknowledged publishes"
	}
	return f
}

func ofReplicas(d stream.Durability) Finding {
	f := Finding{"NATS replicas of EVENTS", fmt.Sprint(d.Replicas), "acknowledged publishes survive the loss of a server", Enough, ""}
	if d.Replicas < 3 {
		f.Verdict, f.Advice = Note, "the disk of one server has the only copy: with a cluster, set stream.replicas: 3"
	}
	return f
}
