package chaos

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// burstLimit is how often an application may be throttled within the window without an alert.
	burstLimit = 10
	// decideLimit is how long alerts over all workers are waited for, once everything is folded.
	decideLimit = 30 * time.Second
)

// globalKey tells alerts over all workers apart: they fire at the end of a step, in seconds since 1970.
func globalKey(rule, api, by, template string, second int64) string {
	return fmt.Sprintf("%s of %s, %s %s, at %d", rule, api, by, template, second)
}

// expected are the alerts over all workers that must have fired.
func (t *truth) expected() map[string]bool {
	want := map[string]bool{}
	for key, events := range t.global {
		if !strings.HasPrefix(key, ruleBurst) || events > burstLimit {
			want[key] = true
		}
	}
	return want
}

// globalAlert is a row of an alert over all workers.
type globalAlert struct{ id, firing, state, key string }

func (s *site) globalAlerts(ctx context.Context) (all []globalAlert, err error) {
	err = s.query(ctx, `SELECT id, firing_id, state, rule, coalesce(key ->> 'apiName', ''), coalesce(key ->> 'apiMethod', key ->> 'applicationId', ''),
		coalesce(key ->> 'apiResourceTemplate', ''), extract(epoch FROM fired_at)::bigint FROM weir.alert WHERE scope = 'global'`, func(rows *sql.Rows) error {
		var a globalAlert
		var rule, api, by, template string
		var second int64
		err := rows.Scan(&a.id, &a.firing, &a.state, &rule, &api, &by, &template, &second)
		a.key = globalKey(rule, api, by, template, second)
		all = append(all, a)
		return err
	})
	return all, err
}

// checkGlobalAlerts: one for each second of a slow call, and for each application that was throttled too often, and no other;
// what is resolved had fired. They are decided after what they are of is folded, so they are waited for.
func (s *site) checkGlobalAlerts(ctx context.Context, t *truth, c *Check) error {
	want := t.expected()
	var all []globalAlert
	fired, ids := map[string]int{}, map[string]bool{}
	for limit := time.Now().Add(decideLimit); ; pause(ctx, 200*time.Millisecond) {
		var err error
		if all, err = s.globalAlerts(ctx); err != nil {
			return err
		}
		clear(fired)
		missing := len(want)
		for _, a := range all {
			if a.state == "firing" {
				fired[a.key]++
				ids[a.id] = true
				if fired[a.key] == 1 && want[a.key] {
					missing--
				}
			}
		}
		if missing == 0 || time.Now().After(limit) || ctx.Err() != nil {
			break
		}
	}
	for key := range want {
		if fired[key] != 1 {
			t.problem("%d global alerts, want 1: %s, of %d events", fired[key], key, t.global[key])
		}
	}
	for key, n := range fired {
		if !want[key] {
			t.problem("%d global alerts, want none: %s, of %d events", n, key, t.global[key])
		}
	}
	resolved := map[string]int{}
	for _, a := range all {
		if a.state == "firing" {
			continue
		}
		if resolved[a.firing]++; !ids[a.firing] || resolved[a.firing] > 1 {
			t.problem("alert %s resolves %q, for the %d. time: %s", a.id, a.firing, resolved[a.firing], a.key)
		}
	}
	c.Global = len(all)
	return nil
}

// checkLocalAlerts: one of some worker for every slow event, once.
func (s *site) checkLocalAlerts(ctx context.Context, t *truth, _ *Check) error {
	times := map[int64]int{}
	err := s.query(ctx, "SELECT extract(epoch FROM fired_at), rule FROM weir.alert WHERE scope = 'local'", func(rows *sql.Rows) error {
		var rule string
		var at float64
		if err := rows.Scan(&at, &rule); err != nil {
			return err
		}
		if rule != ruleSlow {
			t.problem("an alert of a worker is of rule %s, for which there is no cause", rule)
		}
		times[int64(math.Round(at*1000))]++
		return nil
	})
	for at := range t.slow {
		if times[at] != 1 {
			t.problem("%d alerts for the slow event of %d, want 1", times[at], at)
		}
	}
	for at := range times {
		if !t.slow[at] {
			t.problem("an alert for the time %d, at which nothing was slow", at)
		}
	}
	return err
}

// checkPublished: every alert that is stored was published once, and no other. What the outbox still has is waited for.
func (s *site) checkPublished(ctx context.Context, t *truth, c *Check) error {
	var left int
	for limit := time.Now().Add(decideLimit); ; pause(ctx, 200*time.Millisecond) {
		if err := s.sql.QueryRowContext(ctx, "SELECT count(*) FROM weir.alert_outbox").Scan(&left); err != nil {
			return err
		}
		if left == 0 || time.Now().After(limit) {
			break
		}
	}
	published := map[string]int{}
	err := readStream(ctx, s.js, alertsStream, func(m jetstream.Msg, _ uint64, _ time.Time) {
		published[m.Headers().Get(jetstream.MsgIDHeader)]++
	})
	if err != nil {
		return err
	}
	// Read after what is published: in between another may have been decided, and none is taken back.
	stored := map[string]bool{}
	err = s.query(ctx, "SELECT id FROM weir.alert WHERE id NOT IN (SELECT alert_id FROM weir.alert_outbox)", func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		stored[id] = true
		return err
	})
	for id := range stored {
		if published[id] != 1 {
			t.problem("alert %s was published %d times", id, published[id])
		}
	}
	for id := range published {
		if !stored[id] {
			t.problem("alert %q was published, and is not stored", id)
		}
	}
	c.Alerts = len(published)
	return err
}
