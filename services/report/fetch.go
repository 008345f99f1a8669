package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"weir/pkg/query"
	"weir/services/ask"
)

const (
	usageAgg  = "ApiUserPerAppAgg"
	errorsAgg = "ApiErrorAnalysisAgg"
	rowKeys   = "apiCreatorTenantDomain,apiName,apiVersion,applicationId"
)

// fetch asks for all that a report is made of; month is the first day of it, in UTC.
func fetch(ctx context.Context, asker *ask.Asker, month, now time.Time) (*Month, error) {
	usage, err := newSource(ctx, asker, usageAgg, month)
	if err != nil {
		return nil, err
	}
	outcomes, err := newSource(ctx, asker, errorsAgg, month)
	if err != nil {
		return nil, err
	}
	m := &Month{Start: usage.start, End: usage.end, Made: now, Kept: usage.described.Retention["months"]}
	if err := m.addRows(ctx, usage, outcomes); err != nil {
		return nil, err
	}
	if err := m.addUsers(ctx, usage); err != nil {
		return nil, err
	}
	return m, m.addDays(ctx, usage)
}

// source is an aggregation, and the month in its zone.
type source struct {
	asker      *ask.Asker
	name       string
	described  query.Aggregation
	start, end time.Time
}

func newSource(ctx context.Context, asker *ask.Asker, name string, month time.Time) (*source, error) {
	described, _, err := asker.Aggregation(ctx, name) // that there is none the question tells better
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(described.Zone)
	if err != nil {
		return nil, err
	}
	return &source{
		asker: asker, name: name, described: described,
		start: time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, zone),
		end:   time.Date(month.Year(), month.Month()+1, 1, 0, 0, 0, 0, zone),
	}, nil
}

// ask asks for rows of columns; more are further parameters, name=value.
func (s *source) ask(ctx context.Context, per, groupBy, columns string, more ...string) (*query.Answer, error) {
	values := url.Values{
		"within": {fmt.Sprintf("%d,%d", s.start.UnixMilli(), s.end.UnixMilli())}, "per": {per}, "time": {"ms"},
		"group_by": {groupBy}, "select": {columns},
	}
	for _, parameter := range more {
		name, value, _ := strings.Cut(parameter, "=")
		values.Set(name, value)
	}
	return s.asker.Ask(ctx, s.name, values)
}

// rows are those of a month by their keys, while they are put together.
type rows map[[4]string]*Row

// of is the row of the keys, which are the first of the texts, made where there is none.
func (r rows) of(texts []string) *Row {
	key := [4]string(texts)
	if r[key] == nil {
		r[key] = &Row{Tenant: key[0], API: key[1], Version: key[2], ApplicationID: key[3]}
	}
	return r[key]
}

// addRows asks for the calls, and for what became of them.
func (m *Month) addRows(ctx context.Context, usage, outcomes *source) error {
	const columns = rowKeys + ",applicationName,applicationOwner,"
	answer, err := usage.ask(ctx, "months", rowKeys, columns+"totalRequestCount")
	if err != nil {
		return err
	}
	m.Through = answer.CompleteThrough
	all := rows{}
	if err := each(answer, 6, func(texts []string, numbers []int64) {
		row := all.of(texts[:4])
		row.Application, row.Owner = texts[4], texts[5]
		row.Requests += numbers[0]
	}); err != nil {
		return err
	}
	if answer, err = outcomes.ask(ctx, "months", rowKeys, columns+"_4xx,_5xx,faultCount,throttledCount"); err != nil {
		return err
	}
	err = each(answer, 6, func(texts []string, numbers []int64) {
		row := all.of(texts[:4])
		row.Application, row.Owner = cmp.Or(row.Application, texts[4]), cmp.Or(row.Owner, texts[5])
		row.add(Figures{Codes4xx: numbers[0], Codes5xx: numbers[1], Faults: numbers[2], Throttled: numbers[3]})
	})
	for _, row := range all {
		m.Rows = append(m.Rows, *row)
	}
	slices.SortFunc(m.Rows, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.API, b.API), strings.Compare(a.Version, b.Version),
			strings.Compare(a.Application, b.Application), strings.Compare(a.ApplicationID, b.ApplicationID))
	})
	return err
}

func (m *Month) addUsers(ctx context.Context, s *source) error {
	answer, err := s.ask(ctx, "months", "username,userTenantDomain", "username,userTenantDomain,totalRequestCount as calls",
		"order_by=calls desc", fmt.Sprintf("limit=%d", mostTop))
	if err != nil {
		return err
	}
	return each(answer, 2, func(texts []string, numbers []int64) {
		name := texts[0]
		if texts[1] != "" {
			name += "@" + texts[1]
		}
		m.Users = append(m.Users, Ranked{Name: name, Figures: Figures{Requests: numbers[0]}})
	})
}

func (m *Month) addDays(ctx context.Context, s *source) error {
	if !slices.Contains(s.described.Granularities, "days") {
		return nil
	}
	answer, err := s.ask(ctx, "days", "bucket", "bucket,totalRequestCount")
	if err != nil || len(answer.Rows) == 0 {
		return err
	}
	counted := map[int64]int64{} // start in ms → calls
	if err := each(answer, 0, func(_ []string, numbers []int64) { counted[numbers[0]] = numbers[1] }); err != nil {
		return err
	}
	for day := m.Start; day.Before(m.End) && !day.After(m.Made); day = day.AddDate(0, 0, 1) {
		m.Days = append(m.Days, Day{day, counted[day.UnixMilli()]})
	}
	return nil
}

// each reads rows of some texts, with whole numbers after them.
func each(answer *query.Answer, texts int, row func(texts []string, numbers []int64)) error {
	for _, cells := range answer.Rows {
		var left []string
		var right []int64
		for i, cell := range cells {
			if i < texts {
				text, _ := cell.(string) // null is ""
				left = append(left, text)
				continue
			}
			n, err := whole(cell)
			if err != nil {
				return fmt.Errorf("read %s: %w", answer.Columns[i], err)
			}
			right = append(right, n)
		}
		row(left, right)
	}
	return nil
}

func whole(cell any) (int64, error) {
	switch n := cell.(type) {
	case nil:
		return 0, nil
	case int64:
		return n, nil
	case json.Number:
		return n.Int64()
	}
	return 0, fmt.Errorf("%v is no whole number below 2^63", cell)
}
