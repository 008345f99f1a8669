package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"weir/pkg/aggregation"
)

// aggregate is an aggregation as the database has it: which tables there are,
// and which is filled from which.
type aggregate struct {
	id     string                    // Calls, Calls@2
	levels []aggregation.Granularity // the finest first
	zone   *time.Location
	record string // what it was read from
}

// packed reports whether a level has rows of many groups each, as
// [aggregation.Definition.Packed].
func (a *aggregate) packed(level int) bool { return level == 0 || a.levels[level] < aggregation.Days }

// fine reports whether a level has so many rows to a time that only short times
// of it are added up at once: the finest, and those below hours.
func (a *aggregate) fine(level int) bool { return level == 0 || a.levels[level] < aggregation.Hours }

// table names the rows of a level.
func (a *aggregate) table(level int) string {
	name := strings.ToLower(a.id) + "_" + strings.ReplaceAll(a.levels[level].String(), " ", "_")
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// parent is the level that a level is filled from: the coarsest of the finer
// ones that it is made of; -1 for the finest.
func (a *aggregate) parent(level int) int {
	for i := level - 1; i >= 0; i-- {
		if a.levels[i].Nests(a.levels[level]) {
			return i
		}
	}
	return -1
}

const selectAggregates = `SELECT id, definition::text FROM weir.aggregation`

// aggregates reads what has tables.
func aggregates(ctx context.Context, q querier) (all []*aggregate, err error) {
	err = each(ctx, q, func(scan func(...any) error) error {
		var id, record string
		if err := scan(&id, &record); err != nil {
			return err
		}
		a, err := parseAggregate(id, record)
		all = append(all, a)
		return err
	}, selectAggregates+` ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	return all, nil
}

func parseAggregate(id, record string) (*aggregate, error) {
	var r struct {
		Levels []string `json:"every"`
		Zone   string   `json:"zone"`
	}
	if err := json.Unmarshal([]byte(record), &r); err != nil {
		return nil, fmt.Errorf("aggregation %s: %w", id, err)
	}
	a := &aggregate{id: id, record: record}
	var err error
	if a.zone, err = time.LoadLocation(r.Zone); err != nil {
		return nil, fmt.Errorf("aggregation %s: %w", id, err)
	}
	for _, text := range r.Levels {
		level, err := aggregation.ParseGranularity(text)
		if err != nil {
			return nil, fmt.Errorf("aggregation %s: %w", id, err)
		}
		a.levels = append(a.levels, level)
	}
	return a, nil
}

// unchanged reports whether the aggregation is in this state of the database
// what it was when it was read. If not, the next pass will know it better.
func (s snapshot) unchanged(ctx context.Context, agg *aggregate) (same bool, err error) {
	err = s.tx.QueryRowContext(ctx, `SELECT EXISTS (`+selectAggregates+` WHERE id = $1 AND definition::text = $2)`, agg.id, agg.record).Scan(&same)
	if err != nil {
		return false, fmt.Errorf("read the definition of %s: %w", agg.id, err)
	}
	return same, nil
}
