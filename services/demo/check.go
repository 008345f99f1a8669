package demo

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"weir/pkg/aggregation"
	"weir/pkg/gateway"
	"weir/pkg/query"
)

// report is the result of comparing what was published with what is stored.
type report struct {
	published, folded, lost, doubled int64
	problems                         []string
}

func (r report) wrong() bool { return r.lost > 0 || r.doubled > 0 || r.published != r.folded }

func (r report) String() string {
	return fmt.Sprintf("published=%d folded=%d lost=%d doubled=%d", r.published, r.folded, r.lost, r.doubled)
}

// counted names, for each type of event, an aggregation by context and host
// name, in which every event of the type counts one.
var counted = map[string]struct{ aggregation, host, count string }{ //nolint:gochecknoglobals // a constant table
	gateway.TypeRequest:  {"ApiVersionPerAppAgg", "apiHostname", "totalRequestCount"},
	gateway.TypeFault:    {"ApiFaultyInvocationAgg", "hostname", "totalFaultCount"},
	gateway.TypeThrottle: {"ApiThrottledOutAgg", "hostname", "throttledOutCount"},
}

// check compares the gateways' own records with the database: per second,
// API and gateway, where a loss and a double count cannot hide each other, and
// then the totals of every aggregation at every granularity.
func (d *demo) check(ctx context.Context, from, to time.Time) (report, error) {
	var r report
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
	return r, d.checkTotals(ctx, &r, byType, from, to)
}

// stored asks for the counts of one type, per second, context and gateway.
func (d *demo) stored(ctx context.Context, eventType, within string) (map[gateway.Expect]int64, error) {
	c := counted[eventType]
	if d.catalog.Aggregation(c.aggregation) == nil {
		return nil, fmt.Errorf("the definitions have no aggregation %s; the demo checks itself with the built-in ones", c.aggregation)
	}
	answer, err := d.ask(ctx, c.aggregation, url.Values{
		"within": {within}, "per": {"seconds"}, "time": {"ms"},
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
		if strings.HasPrefix(key.Hostname, "gw-") {
			stored[key] = number(row[3])
		}
	}
	return stored, nil
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
				want := published[def.Inputs[0].Stream]
				within := fmt.Sprintf("%d,%d", time.UnixMicro(g.Truncate(from.UnixMicro(), def.Zone)).UnixMilli(), to.Add(time.Second).UnixMilli())
				answer, err := d.ask(ctx, def.Name, url.Values{
					"within": {within}, "per": {g.String()}, "select": {"sum(" + m.Name + ")"}, "group_by": {""},
				})
				if err != nil {
					return fmt.Errorf("check %s per %s: %w", def.Name, g, err)
				}
				got := int64(0)
				if len(answer.Rows) > 0 {
					got = number(answer.Rows[0][0])
				}
				if got != want {
					r.problems = append(r.problems, fmt.Sprintf("%s per %s: %d events, %d were published", def.Name, g, got, want))
					r.lost, r.doubled = max(r.lost, want-got), max(r.doubled, got-want)
				}
			}
		}
	}
	return nil
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
