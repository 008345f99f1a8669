package chaos

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Line is the result for one aggregation and granularity.
type Line struct {
	Aggregation string `json:"aggregation"`
	Level       string `json:"level"`
	Published   int64  `json:"published"` // events that belong to it
	Folded      int64  `json:"folded"`
	Lost        int64  `json:"lost"`    // by group and bucket, so that one error cannot hide another
	Doubled     int64  `json:"doubled"` // likewise
}

// Check is the result of one comparison of everything with the oracle.
type Check struct {
	When        string   `json:"when"`
	Events      int      `json:"events"`   // that must be folded
	Messages    int      `json:"messages"` // in the stream
	DeadLetters int      `json:"dead_letters"`
	Alerts      int      `json:"alerts"`
	Global      int      `json:"global_alerts"` // of these, those over all workers
	Again       int      `json:"again"`         // messages that the ledger had to refuse
	Lines       []Line   `json:"lines"`
	Audit       string   `json:"audit,omitempty"` // what Weir's own audit says
	Problems    []string `json:"problems,omitempty"`
}

// wrong reports whether something is not as it must be.
func (c *Check) wrong() bool { return len(c.Problems) > 0 || c.Lost() > 0 || c.Doubled() > 0 }

// Lost is the most that any aggregation and granularity has lost.
func (c *Check) Lost() (most int64) {
	for _, l := range c.Lines {
		most = max(most, l.Lost)
	}
	return most
}

// Doubled is the most that any aggregation and granularity has too much.
func (c *Check) Doubled() (most int64) {
	for _, l := range c.Lines {
		most = max(most, l.Doubled)
	}
	return most
}

// check compares all that is stored with the oracle.
func (s *site) check(ctx context.Context, h *history, when string) (*Check, error) {
	t, err := h.learn(ctx, s.js)
	if err != nil {
		return nil, err
	}
	c := &Check{When: when, Events: len(t.folded), Messages: t.messages, DeadLetters: len(t.dead), Again: t.again}
	for _, check := range []func(context.Context, *truth, *Check) error{s.checkTotals, s.checkDeadLetters, s.checkLedger, s.checkLocalAlerts, s.checkGlobalAlerts, s.checkPublished, s.checkAggregates} {
		if err := check(ctx, t, c); err != nil {
			return nil, fmt.Errorf("check %s: %w", when, err)
		}
	}
	c.Audit = s.audit(ctx, t)
	c.Problems = t.problems
	if more := t.count - len(t.problems); more > 0 {
		c.Problems = append(c.Problems, fmt.Sprintf("and %d more", more))
	}
	return c, nil
}

// audit lets Weir prove it all by itself, too, and returns its last line. Where the oracle has found something already,
// nothing is waited for that will not come.
func (s *site) audit(ctx context.Context, t *truth) string {
	if !s.cfg.Audit {
		return ""
	}
	args := []string{"audit"}
	if t.count == 0 {
		args = append(args, "--wait")
	}
	said, err := s.weir(ctx, args...)
	if err != nil {
		t.problem("the audit does not agree: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return lines[len(lines)-1]
}

// checkAggregates compares every group of every bucket at every level of every aggregation.
func (s *site) checkAggregates(ctx context.Context, t *truth, c *Check) error {
	all := sheets()
	lines := make([][]Line, len(all))
	problems := make([][]string, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for i, sheet := range all {
		group.Go(func() error {
			finest := sheet.fill(t.folded)
			for _, level := range levels() {
				want := finest.at(level)
				got, err := sheet.read(ctx, s.sql, level)
				if err != nil {
					return err
				}
				line, differences := sheet.compare(level, want, got)
				lines[i] = append(lines[i], line)
				problems[i] = append(problems[i], differences...)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range all {
		c.Lines = append(c.Lines, lines[i]...)
		for _, p := range problems[i] {
			t.problem("%s", p)
		}
	}
	return nil
}

// read reads the view of a level.
func (s sheet) read(ctx context.Context, db *sql.DB, level string) (account, error) {
	columns := []string{"extract(epoch FROM bucket)::bigint::text"}
	group := []string{"1"}
	for i, key := range s.keys {
		columns, group = append(columns, key+"::text"), append(group, strconv.Itoa(i+2))
	}
	columns = append(columns, "sum(weir_events)::bigint")
	for _, m := range s.measures {
		if name, ok := strings.CutPrefix(m, "avg("); ok {
			name = strings.TrimSuffix(name, ")")
			m = "round(sum(" + name + " * weir_events))::bigint"
		} else {
			m = "sum(" + m + ")::bigint"
		}
		columns = append(columns, m)
	}
	query := fmt.Sprintf("SELECT %s FROM weir_view.%s_%s GROUP BY %s", strings.Join(columns, ", "), strings.ToLower(s.name), level, strings.Join(group, ", "))
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read %s per %s: %w", s.name, level, err)
	}
	defer rows.Close()
	a := account{}
	keys := make([]string, 1+len(s.keys))
	for rows.Next() {
		c := &cell{}
		var into []any
		for i := range keys {
			into = append(into, &keys[i])
		}
		into = append(into, &c.events)
		for i := range s.measures {
			into = append(into, &c.measures[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("read %s per %s: %w", s.name, level, err)
		}
		a[strings.Join(keys, "\x00")] = c
	}
	return a, rows.Err()
}

// compare says where two accounts differ.
func (s sheet) compare(level string, want, got account) (Line, []string) {
	line := Line{Aggregation: s.name, Level: level, Published: want.events(), Folded: got.events()}
	var problems []string
	differ := func(key string, w, g cell) {
		line.Lost += max(0, w.events-g.events)
		line.Doubled += max(0, g.events-w.events)
		if w != g && len(problems) < 3 {
			problems = append(problems, fmt.Sprintf("%s per %s, %s: want %s, got %s",
				s.name, level, strings.ReplaceAll(key, "\x00", " "), w.text(len(s.measures)), g.text(len(s.measures))))
		}
	}
	for key, w := range want {
		g := got[key]
		if g == nil {
			g = &cell{}
		}
		differ(key, *w, *g)
	}
	for key, g := range got {
		if want[key] == nil {
			differ(key, cell{}, *g)
		}
	}
	return line, problems
}

func (c cell) text(measures int) string {
	return fmt.Sprintf("%d events %v", c.events, c.measures[:measures])
}

// checkDeadLetters: exactly those that could not be read, each once.
func (s *site) checkDeadLetters(ctx context.Context, t *truth, _ *Check) error {
	got := map[string]int{}
	err := s.query(ctx, "SELECT msg_id, sequence, event_offset FROM weir.dead_letter", func(rows *sql.Rows) error {
		var id string
		var sequence uint64
		var offset int
		if err := rows.Scan(&id, &sequence, &offset); err != nil {
			return err
		}
		got[identityOf(id, sequence, offset).text()]++
		return nil
	})
	if err != nil {
		return err
	}
	for id, n := range got {
		if t.dead[id] != n {
			t.problem("dead letter %s: there are %d, want %d", id, n, t.dead[id])
		}
	}
	for id := range t.dead {
		if got[id] == 0 {
			t.problem("dead letter %s is missing", id)
		}
	}
	return nil
}

// identityOf is the identity of a dead letter.
func identityOf(id string, sequence uint64, offset int) identity {
	parts := strings.Split(id, "/")
	if len(parts) != 3 {
		return identity{ledgerKey{"", "", sequence}, offset}
	}
	from, _, ranged := strings.Cut(parts[2], "-")
	number, _ := strconv.ParseUint(from, 10, 64) // the generator wrote it
	m := message{ranged: ranged}
	return m.identity(ledgerKey{parts[0], parts[1], number}, offset)
}

// checkLedger: exactly what is in the stream is claimed.
func (s *site) checkLedger(ctx context.Context, t *truth, _ *Check) error {
	const pageSize = 4096
	got := map[ledgerKey]bool{}
	err := s.query(ctx, "SELECT source, epoch, page, bits::text FROM weir.ledger_page WHERE scope = ''", func(rows *sql.Rows) error {
		var k ledgerKey
		var page uint64
		var bits string
		if err := rows.Scan(&k.source, &k.epoch, &page, &bits); err != nil {
			return err
		}
		for i := range len(bits) {
			if bits[i] == '1' {
				k.number = page*pageSize + 1 + uint64(i) //nolint:gosec // an index
				got[k] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.query(ctx, "SELECT source, epoch, first_page, last_page FROM weir.ledger_full WHERE scope = ''", func(rows *sql.Rows) error {
		var k ledgerKey
		var first, last uint64
		if err := rows.Scan(&k.source, &k.epoch, &first, &last); err != nil {
			return err
		}
		for n := first*pageSize + 1; n <= (last+1)*pageSize; n++ {
			k.number = n
			got[k] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	foreign := map[[2]int64]bool{}
	err = s.query(ctx, "SELECT sequence, stored FROM weir.ledger_foreign WHERE scope = ''", func(rows *sql.Rows) error {
		var k [2]int64
		err := rows.Scan(&k[0], &k[1])
		foreign[k] = true
		return err
	})
	differ(t, "number", t.own, got)
	differ(t, "foreign message", t.foreign, foreign)
	return err
}

// differ reports what two sets do not share.
func differ[K comparable](t *truth, what string, want, got map[K]bool) {
	for k := range want {
		if !got[k] {
			t.problem("the ledger lacks %s %v", what, k)
		}
	}
	for k := range got {
		if !want[k] {
			t.problem("the ledger has %s %v, which is not in the stream", what, k)
		}
	}
}

// checkTotals compares what the workers say themselves.
func (s *site) checkTotals(ctx context.Context, t *truth, _ *Check) error {
	var events, dead int64
	row := s.sql.QueryRowContext(ctx, "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint FROM weir.shard")
	if err := row.Scan(&events, &dead); err != nil {
		return err
	}
	if events != int64(len(t.folded)) || dead != int64(len(t.dead)) {
		t.problem("the shards say that %d events are folded, %d are dead letters; want %d, %d", events, dead, len(t.folded), len(t.dead))
	}
	return nil
}

func (s *site) query(ctx context.Context, query string, each func(*sql.Rows) error) error {
	rows, err := s.sql.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return rows.Err()
}
