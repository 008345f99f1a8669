package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/event"
	"weir/pkg/stream"
)

// sums is what rows, control totals and the oracle must agree on, by the start
// of a span of time in microseconds.
type sums map[int64]sum

type sum struct {
	events   int64
	checksum uint32
}

func (p sums) add(at, events int64, checksum uint32) {
	p[at] = sum{p[at].events + events, p[at].checksum + checksum}
}

func (p sums) String() string {
	var lines []string
	for _, at := range slices.Sorted(maps.Keys(p)) {
		lines = append(lines, fmt.Sprintf("%s %d %08x", time.UnixMicro(at).UTC().Format(time.RFC3339), p[at].events, p[at].checksum))
	}
	return strings.Join(lines, "\n")
}

// wantConserved checks at every level of an aggregation that the numbers and
// checksums of events, of the level and of what it lacks, are the control
// totals, and that the shards' claims are what the ledger holds. It returns the
// sums at the finest level.
func (h *harness) wantConserved(what string, def *aggregation.Definition) (finest sums) {
	h.t.Helper()
	for _, level := range def.Granularities {
		rows, control := h.proven(def, level)
		if rows.String() != control.String() {
			h.t.Errorf("%s: %s per %s: the rows add up to\n%s\nthe control totals are\n%s", what, def.ID(), level, rows, control)
		}
		if level == def.Finest() {
			finest = rows
		}
	}
	both := ask[string](h, `SELECT (SELECT sum(claims) FROM weir.shard) || ' ' ||
		(SELECT coalesce(sum(bit_count(bits)), 0) FROM weir.ledger_page WHERE scope = '') +
		(SELECT coalesce(sum(last_page - first_page + 1), 0) * 4096 FROM weir.ledger_full WHERE scope = '') +
		(SELECT count(*) FROM weir.ledger_foreign WHERE scope = '')`)
	if claims, ledger, _ := strings.Cut(both, " "); claims != ledger {
		h.t.Errorf("%s: the shards have claimed %s identities, the ledger has %s", what, claims, ledger)
	}
	return finest
}

// proven adds up, in one snapshot, the rows of a level with the tail it lacks,
// and the control totals, both by bucket, or by period where that is longer.
func (h *harness) proven(def *aggregation.Definition, level aggregation.Granularity) (rows, control sums) {
	h.t.Helper()
	list := func(level aggregation.Granularity) string {
		table := " FROM weir_data.\"" + def.Table(level) + "\" t"
		if def.Packed(level) {
			return "SELECT true, bucket, (SELECT sum(n) FROM unnest(weir_events) AS n), weir_checksum" + table
		}
		return "SELECT true, bucket, weir_events, weir_checksum" + table
	}
	query := `SELECT false, period, events, checksum FROM weir.control WHERE aggregation = '` + def.ID() + `' UNION ALL ` + list(level)
	of := level
	for parent, ok := def.Parent(of); ok; parent, ok = def.Parent(of) {
		query += ` UNION ALL ` + list(parent) + fmt.Sprintf(` WHERE batch_no > coalesce((SELECT batch_no FROM weir.watermark w
			WHERE w.shard_id = t.shard_id AND w.aggregation = '%s' AND w.level = '%s'), -9223372036854775807)`, def.ID(), of)
		of = parent
	}
	result, err := h.sql.QueryContext(h.t.Context(), query)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = result.Close() }()
	rows, control = sums{}, sums{}
	for result.Next() {
		var row bool
		var at time.Time
		var events, checksum int64
		if err := result.Scan(&row, &at, &events, &checksum); err != nil {
			h.t.Fatal(err)
		}
		sum, start := control, period(at.UnixMicro())
		if row {
			sum = rows
		}
		if level >= aggregation.Hours {
			start = level.Truncate(at.UnixMicro(), def.Zone)
		}
		sum.add(start, events, uint32(checksum))
	}
	if err := result.Err(); err != nil {
		h.t.Fatal(err)
	}
	return rows, control
}

func period(at int64) int64 { return at - at%(15*60*1_000_000) }

// history is the naive oracle: what must be folded, by period, of the messages
// that the stream holds, if all of them are. It takes each identity once, the
// first time, and no dead letters but those that were folded since.
func (h *harness) history(subject, timeAttribute string) sums {
	h.t.Helper()
	history, err := h.conn.History(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	var messages []stream.Message
	for next := uint64(1); ; next = messages[len(messages)-1].Sequence + 1 {
		more, err := history.Read(h.t.Context(), next, stream.Limits{Messages: 5000}, []string{subject})
		if err != nil {
			h.t.Fatal(err)
		}
		if len(more) == 0 {
			break
		}
		messages = append(messages, more...)
	}
	dead := h.counts(`SELECT sequence || ' ' || event_offset, count(*) FROM weir.dead_letter WHERE state <> 'folded' AND aggregation = '' GROUP BY 1`)
	sum, seen := sums{}, map[string]bool{}
	for _, m := range messages {
		id, own := m.Identity()
		for offset, fields := range bodies(m) {
			base, number, place := event.ForeignChecksumBase(history.Incarnation(), m.Stored.UnixMicro()), m.Sequence, offset
			if own {
				base, number = event.ChecksumBase(id.Source, id.Epoch), id.First
			}
			if own && id.Count() > 1 {
				number, place = id.First+uint64(offset), 0
			}
			at, _ := fields[timeAttribute].(float64) // milliseconds
			whole, one := fmt.Sprint(m.Sequence, " -1"), fmt.Sprint(m.Sequence, " ", offset)
			if key := fmt.Sprint(base, number, place); !seen[key] && dead[whole]+dead[one] == 0 {
				seen[key] = true
				sum.add(period(int64(at)*1000), 1, event.Checksum(base, number, place))
			}
		}
	}
	return sum
}

// bodies reads the events of a message; one that is broken is empty.
func bodies(m stream.Message) (events []map[string]any) {
	if strings.Contains(m.ContentType(), "ndjson") {
		for line := range strings.Lines(strings.TrimSpace(string(m.Data))) {
			var fields map[string]any
			_ = json.Unmarshal([]byte(line), &fields) // then it is a dead letter
			events = append(events, fields)
		}
		return events
	}
	decoder := json.NewDecoder(bytes.NewReader(m.Data))
	for {
		var value any
		if decoder.Decode(&value) != nil {
			return events
		}
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, one := range list {
			fields, _ := one.(map[string]any)
			events = append(events, fields)
		}
	}
}

// Messages of every kind, some in several batches and cut otherwise: what is
// folded has the checksums of what the stream holds.
func TestChecksums_AreThoseOfTheEventsInTheStream(t *testing.T) {
	t.Parallel()
	h := newBackfillHarness(t)
	a, b := h.idle("w1"), h.idle("w2")
	total, _ := h.publishMix("e")
	messages := h.take(a, total)
	h.process(a, messages[1:4]...)
	h.process(b, messages...)
	if err := a.rollUp(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.process(a, messages[3:]...)
	got := h.wantConserved("the mix", h.catalog.Aggregation("Ticks"))
	if want := h.history("tick", "at"); got.String() != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := ask[int64](h, `SELECT sum(claims) FROM weir.shard`), int64(2+2+7+2); got != want { // alone, foreign, numbered, dead
		t.Errorf("%d identities are claimed, want %d", got, want)
	}
}

// Every aggregation of the default pack, over all its streams and conditions.
func TestControl_IsWhatEveryAggregationOfThePackHolds(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := h.idle("w1")
	for n := range 30 {
		h.publish("events.request.gw", fmt.Sprintf("gw/e/%d", n+1), "", call(n, fmt.Sprintf(`,"apiVersion":"v%d"`, n%3)))
		h.publish("events.fault.gw", "", "", fmt.Sprintf(`{"apiName":"pizza","errorCode":"%d","requestTimestamp":%d}`, 900_000+n, 1_715_947_200_000+n*77_000))
		h.publish("events.throttle.gw", "", "", fmt.Sprintf(`{"apiName":"pizza","throttledOutTimestamp":%d}`, 1_715_947_200_000+n*77_000))
	}
	messages := h.take(w, 90)
	for n := 0; n < len(messages); n += 18 {
		h.process(w, messages[n:n+18]...)
		if err := w.rollUp(t.Context(), n%36 == 0); err != nil {
			t.Fatal(err)
		}
	}
	some := 0
	for _, def := range h.catalog.Aggregations {
		if len(h.wantConserved("the pack", def)) > 0 {
			some++
		}
	}
	if some < 5 {
		t.Errorf("only %d of %d aggregations have events", some, len(h.catalog.Aggregations))
	}
	if dead := h.totals().DeadLetters; dead > 0 {
		t.Errorf("%d dead letters: %s", dead, ask[string](h, `SELECT min(reason) FROM weir.dead_letter`))
	}
}
