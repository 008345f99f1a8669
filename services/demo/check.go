package demo

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/gateway"
	"weir/pkg/query"
	"weir/services/config"
)

// report is the result of comparing what was published with what is stored.
type report struct {
	published, folded, lost, doubled int64
	skipped                          int // totals that could not be compared
	problems                         []string
}

func (r *report) wrong() bool { return r.lost > 0 || r.doubled > 0 || r.published != r.folded }

func (r *report) String() string {
	return fmt.Sprintf("published=%d folded=%d lost=%d doubled=%d", r.published, r.folded, r.lost, r.doubled)
}

// counted names, for each type of event, an aggregation by context and host
// name, in which every event of the type counts one.
var counted = map[string]struct{ aggregation, host, count string }{ //nolint:gochecknoglobals // a constant table
	gateway.TypeRequest:  {"ApiVersionPerAppAgg", "apiHostname", "totalRequestCount"},
	gateway.TypeFault:    {"ApiFaultyInvocationAgg", "hostname", "totalFaultCount"},
	gateway.TypeThrottle: {"ApiThrottledOutAgg", "hostname", "throttledOutCount"},
}

// checkable refuses definitions without the aggregations that the check needs.
func checkable(catalog *definition.Catalog) error {
	var problems config.Problems
	for _, c := range counted {
		if catalog.Aggregation(c.aggregation) == nil {
			problems = append(problems, fmt.Sprintf("the definitions have no aggregation %s; the demo checks itself with the built-in ones", c.aggregation))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// check compares the gateways' own records with the database: per second,
// API and gateway, where a loss and a double count cannot hide each other, and
// then the totals of every aggregation at every granularity. The names of the
// gateways are of this run only, so that whatever else is folded meanwhile, or
// was before, is told from their events.
func (d *demo) check(ctx context.Context, from, to time.Time) (*report, error) {
	r := &report{}
	expected := map[gateway.Expect]int64{}
	byType := map[string]int64{}
	for _, s := range d.simulators {
		for key, n := range s.Expected() {
			expected[key] += n
			byType[key.Type] += n
			r.published += n
		}
	}
	within := fmt.Sprintf("%d,%d", from.Truncate(time.Second).UnixMilli(), to.Add(time.Second).UnixMilli())
	for eventType := range counted {
		stored, err := d.stored(ctx, eventType, within)
		if err != nil {
			return r, fmt.Errorf("check %s events: %w", eventType, err)
		}
		for key, n := range stored {
			r.folded += n
			r.doubled += max(0, n-expected[key])
		}
		for key, n := range expected {
			if key.Type == eventType {
				r.lost += max(0, n-stored[key])
			}
		}
	}
	return r, d.checkTotals(ctx, r, byType, from, to)
}

// stored asks for the counts of one type, per second, context and gateway.
func (d *demo) stored(ctx context.Context, eventType, within string) (map[gateway.Expect]int64, error) {
	c := counted[eventType]
	answer, err := d.ask(ctx, c.aggregation, url.Values{
		"within": {within}, "per": {"seconds"}, "time": {"ms"}, "where": {d.ours(c.host)},
		"select":   {"bucket,apiContext," + c.host + ",sum(" + c.count + ")"},
		"group_by": {"bucket,apiContext," + c.host},
	})
	if err != nil {
		return nil, err
	}
	stored := map[gateway.Expect]int64{}
	for _, row := range answer.Rows {
		key := gateway.Expect{Type: eventType}
		millis, _ := row[0].(int64)
		key.Second = millis / 1000
		key.APIContext, _ = row[1].(string)
		key.Hostname, _ = row[2].(string)
		stored[key] = number(row[3])
	}
	return stored, nil
}

// ours is the condition that the host name in a column is a gateway's of this
// run.
func (d *demo) ours(column string) string {
	conditions := make([]string, len(d.sources))
	for i, source := range d.sources {
		conditions[i] = fmt.Sprintf("%s == %q", column, source)
	}
	return strings.Join(conditions, " or ")
}

// checkTotals compares, for every aggregation that counts all events of one
// stream, the total of every granularity with what was published.
func (d *demo) checkTotals(ctx context.Context, r *report, published map[string]int64, from, to time.Time) error {
	for _, def := range d.catalog.Aggregations {
		if len(def.Inputs) != 1 || def.Inputs[0].Where >= 0 {
			continue
		}
		for _, m := range def.Measures {
			if m.Op != aggregation.Count {
				continue
			}
			for _, g := range def.Granularities {
				t := total{def, m.Name, g, from, to}
				if err := d.checkTotal(ctx, r, t, published[def.Inputs[0].Stream]); err != nil {
					return fmt.Errorf("check %s per %s: %w", def.Name, g, err)
				}
			}
		}
	}
	return nil
}

// total is a question for the sum of a count, over all buckets of a
// granularity that the time from … to touches.
type total struct {
	def         *aggregation.Definition
	measure     string
	granularity aggregation.Granularity
	from, to    time.Time
}

// checkTotal compares a total with what was published. Where the aggregation
// does not tell host names apart, that is possible only if nobody else's events
// are in these buckets; whether there are any is asked after the total, when
// all that is in it is in the other aggregation too.
func (d *demo) checkTotal(ctx context.Context, r *report, t total, want int64) error {
	c := counted[t.def.Inputs[0].Stream]
	where := ""
	if hasKey(t.def, c.host) {
		where = d.ours(c.host)
	}
	got, err := d.total(ctx, t, where)
	if err != nil {
		return err
	}
	if got == want {
		return nil
	}
	if where == "" {
		all := t
		all.def, all.measure = d.catalog.Aggregation(c.aggregation), c.count
		everybody, err := d.total(ctx, all, "")
		if err != nil {
			return err
		}
		own, err := d.total(ctx, all, d.ours(c.host))
		if err != nil {
			return err
		}
		if everybody != own {
			r.skipped++
			return nil
		}
	}
	r.problems = append(r.problems, fmt.Sprintf("%s per %s: %d events, %d were published", t.def.Name, t.granularity, got, want))
	r.lost, r.doubled = max(r.lost, want-got), max(r.doubled, got-want)
	return nil
}

func (d *demo) total(ctx context.Context, t total, where string) (int64, error) {
	start := time.UnixMicro(t.granularity.Truncate(t.from.UnixMicro(), t.def.Zone))
	values := url.Values{
		"within": {fmt.Sprintf("%d,%d", start.UnixMilli(), t.to.Add(time.Second).UnixMilli())},
		"per":    {t.granularity.String()}, "select": {"sum(" + t.measure + ")"}, "group_by": {""},
	}
	if where != "" {
		values.Set("where", where)
	}
	answer, err := d.ask(ctx, t.def.Name, values)
	if err != nil || len(answer.Rows) == 0 {
		return 0, err
	}
	return number(answer.Rows[0][0]), nil
}

func hasKey(def *aggregation.Definition, name string) bool {
	for _, key := range def.Keys {
		if key.Name == name {
			return true
		}
	}
	return false
}

func (d *demo) ask(ctx context.Context, name string, values url.Values) (*query.Answer, error) {
	question, err := query.Parse(d.catalog, name, values)
	if err != nil {
		return nil, err
	}
	return question.Ask(ctx, d.instance.DB)
}

func number(cell any) int64 {
	n, _ := strconv.ParseInt(fmt.Sprint(cell), 10, 64) // nil, of no rows, is 0
	return n
}
