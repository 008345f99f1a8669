package stream

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// diff collects what has to change from one configuration to another. What it
// is not asked about stays as it is: placement, mirrors and the like belong to
// whoever runs NATS.
type diff struct {
	changes []string // "max age 24h -> 7d"
	fixed   []string // the same, for what cannot be changed in place
}

// update compares one setting and takes the wanted one over into next.
func update[T comparable](d *diff, name string, next *T, want T) {
	if *next == want {
		return
	}
	d.changes = append(d.changes, fmt.Sprintf("%s %s -> %s", name, show(*next), show(want)))
	*next = want
}

// require compares one setting that cannot be changed in place.
func require[T comparable](d *diff, name string, have, want T) {
	if have != want {
		d.fixed = append(d.fixed, fmt.Sprintf("%s is %s, should be %s", name, show(have), show(want)))
	}
}

func (d *diff) err() error {
	if len(d.fixed) == 0 {
		return nil
	}
	return fmt.Errorf("cannot be changed in place: %s", strings.Join(d.fixed, "; "))
}

// mergeStream returns have with what is wanted, and the changes in words.
func mergeStream(have, want jetstream.StreamConfig) (next jetstream.StreamConfig, changes []string, err error) {
	next = have
	var d diff
	require(&d, "storage", have.Storage, want.Storage)
	require(&d, "retention", have.Retention, want.Retention)
	require(&d, "sealed", have.Sealed, false)
	require(&d, "per-message TTL", have.AllowMsgTTL, false)
	require(&d, "message counter", have.AllowMsgCounter, false)
	require(&d, "message schedules", have.AllowMsgSchedules, false)
	require(&d, "persist mode", have.PersistMode, want.PersistMode)
	if have.DenyDelete && !want.DenyDelete {
		require(&d, "deny delete", have.DenyDelete, want.DenyDelete)
	}
	if have.DenyPurge && !want.DenyPurge {
		require(&d, "deny purge", have.DenyPurge, want.DenyPurge)
	}
	if !slices.Equal(have.Subjects, want.Subjects) {
		d.changes = append(d.changes, fmt.Sprintf("subjects %v -> %v", have.Subjects, want.Subjects))
		next.Subjects = want.Subjects
	}
	update(&d, "discard", &next.Discard, want.Discard)
	update(&d, "discard per subject", &next.DiscardNewPerSubject, false)
	update(&d, "max age", &next.MaxAge, want.MaxAge)
	update(&d, "max bytes", &next.MaxBytes, want.MaxBytes)
	update(&d, "max messages", &next.MaxMsgs, want.MaxMsgs)
	update(&d, "max messages per subject", &next.MaxMsgsPerSubject, -1)
	update(&d, "max message size", &next.MaxMsgSize, want.MaxMsgSize)
	update(&d, "replicas", &next.Replicas, want.Replicas)
	update(&d, "duplicate window", &next.Duplicates, want.Duplicates)
	update(&d, "deny delete", &next.DenyDelete, want.DenyDelete)
	update(&d, "deny purge", &next.DenyPurge, want.DenyPurge)
	update(&d, "roll-ups", &next.AllowRollup, false)
	update(&d, "direct get", &next.AllowDirect, want.AllowDirect)
	update(&d, "acknowledges nothing", &next.NoAck, false)
	return next, d.changes, d.err()
}

// mergeConsumer returns have with what is wanted, and the changes in words.
func mergeConsumer(have, want jetstream.ConsumerConfig) (next jetstream.ConsumerConfig, changes []string, err error) {
	next = have
	var d diff
	require(&d, "deliver policy", have.DeliverPolicy, want.DeliverPolicy)
	require(&d, "ack policy", have.AckPolicy, want.AckPolicy)
	require(&d, "durable", have.Durable, want.Durable)
	require(&d, "deliver subject", have.DeliverSubject, "")
	update(&d, "ack wait", &next.AckWait, want.AckWait)
	update(&d, "max deliveries", &next.MaxDeliver, want.MaxDeliver)
	update(&d, "max ack pending", &next.MaxAckPending, want.MaxAckPending)
	update(&d, "max messages per pull", &next.MaxRequestBatch, want.MaxRequestBatch)
	update(&d, "max bytes per pull", &next.MaxRequestMaxBytes, want.MaxRequestMaxBytes)
	update(&d, "filter", &next.FilterSubject, "")
	if len(have.FilterSubjects) > 0 {
		d.changes = append(d.changes, fmt.Sprintf("filters %v -> none", have.FilterSubjects))
		next.FilterSubjects = nil
	}
	if len(have.BackOff) > 0 {
		d.changes = append(d.changes, fmt.Sprintf("backoff %v -> none", have.BackOff))
		next.BackOff = nil
	}
	return next, d.changes, d.err()
}

func describeStream(c jetstream.StreamConfig) string {
	parts := []string{
		strings.Join(c.Subjects, " "),
		show(c.Retention),
		"discard " + show(c.Discard),
		show(c.Storage),
		"replicas " + show(c.Replicas),
		"max age " + show(c.MaxAge),
		"max bytes " + show(c.MaxBytes),
		"max message size " + show(c.MaxMsgSize),
		"duplicate window " + show(c.Duplicates),
	}
	if c.DenyDelete && c.DenyPurge {
		parts = append(parts, "delete and purge denied")
	}
	return strings.Join(parts, ", ")
}

func describeConsumer(c jetstream.ConsumerConfig) string {
	return strings.Join([]string{
		"durable, pull, from the first message, explicit ack, unlimited deliveries",
		"ack wait " + show(c.AckWait),
		"max ack pending " + show(c.MaxAckPending),
		"at most " + show(c.MaxRequestBatch) + " messages and " + show(c.MaxRequestMaxBytes) + " bytes per pull",
	}, ", ")
}

// show writes a setting for people: JetStream's own "unlimited" as such.
func show(value any) string {
	switch v := value.(type) {
	case time.Duration:
		if v == 0 {
			return "unlimited"
		}
		if v%(24*time.Hour) == 0 {
			return fmt.Sprintf("%dd", v/(24*time.Hour))
		}
	case int, int32, int64:
		if fmt.Sprint(v) == "-1" {
			return "unlimited"
		}
	case string:
		return fmt.Sprintf("%q", v)
	}
	return strings.ToLower(fmt.Sprint(value))
}
