package evaluator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/event"
	"weir/pkg/store"
)

const (
	learnWithin = 10 * time.Minute // how long learning for one rule may take
	learnAgain  = time.Minute      // after which it is tried again
	maxLearned  = 50_000           // keys of a case: those with the most events
)

// learner learns the bounds of rules of the past, when a day of event time is over. Nothing waits for it:
// it belongs to a goroutine of its own.
type learner struct {
	rules []*alert.Rule
	db    *store.DB
	log   *zap.Logger
	// clock gets the event time up to which all is folded, from who holds partition 0: so one
	// process learns at a time. While the learner is busy nobody sends.
	clock chan time.Time

	known   bool
	learned map[string]store.Learning // that was learned last, by rule
	failed  time.Time                 // when that was last
}

func newLearner(rules []*alert.Rule, db *store.DB, log *zap.Logger) *learner {
	return &learner{rules: rules, db: db, log: log, clock: make(chan time.Time)}
}

// at tells what time it is by the events, if the learner has nothing else to do.
func (l *learner) at(now time.Time) {
	select {
	case l.clock <- now:
	default:
	}
}

// run learns until ctx ends.
func (l *learner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-l.clock:
			if time.Since(l.failed) < learnAgain {
				continue
			}
			if err := l.learn(ctx, now); err != nil && ctx.Err() == nil {
				l.failed = time.Now()
				l.log.Warn("thresholds not learned, those that were learned before hold on", zap.Error(err))
			}
		}
	}
}

// learn learns for each rule for which that was not done yet for the days before now, and forgets
// what was learned for rules that learn no more.
func (l *learner) learn(ctx context.Context, now time.Time) (err error) {
	if l.known && !l.due(now) {
		return nil
	}
	if l.learned, err = l.db.Learned(ctx); err != nil { // another process may have
		return err
	}
	l.known = true
	for name := range l.learned { // nobody could unset what was learned for a rule that is gone
		if !slices.ContainsFunc(l.rules, func(rule *alert.Rule) bool { return rule.Name == name }) {
			if err := l.db.ReplaceLearned(ctx, name, nil, store.Learning{}); err != nil {
				return err
			}
		}
	}
	for _, rule := range l.rules {
		of, due := l.next(rule, now)
		if !due {
			continue
		}
		if err := l.learnRule(ctx, rule, now, of); err != nil {
			return fmt.Errorf("learn the thresholds of %s: %w", rule.Name, err)
		}
		l.learned[rule.Name] = of
	}
	return nil
}

func (l *learner) due(now time.Time) bool {
	for _, rule := range l.rules {
		if _, due := l.next(rule, now); due {
			return true
		}
	}
	return false
}

// next returns what there is to learn for a rule, and whether that was not learned yet. A rule that
// learns no more has to forget.
func (l *learner) next(rule *alert.Rule, now time.Time) (of store.Learning, due bool) {
	last := l.learned[rule.Name]
	if rule.Learn == nil {
		return store.Learning{}, last.What != ""
	}
	_, until := rule.Learn.Interval(now)
	of = store.Learning{What: rule.Learn.What(rule), Through: time.UnixMicro(until).UTC()}
	return of, last.What != of.What || !last.Through.Equal(of.Through)
}

func (l *learner) learnRule(ctx context.Context, rule *alert.Rule, now time.Time, of store.Learning) error {
	ctx, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	var entries []alert.Threshold
	if rule.Learn != nil {
		for i := range rule.Cases {
			some, err := l.learnCase(ctx, rule.Learn, &rule.Cases[i], now)
			if err != nil {
				return err
			}
			entries = append(entries, some...)
		}
	}
	if err := l.db.ReplaceLearned(ctx, rule.Name, entries, of); err != nil {
		return err
	}
	l.log.Info("thresholds learned", zap.String("rule", rule.Name), zap.Int("keys", len(entries)), zap.Time("through", of.Through))
	return nil
}

// learnCase asks what the measure of each key came to.
func (l *learner) learnCase(ctx context.Context, learn *alert.Learn, c *alert.Case, now time.Time) (entries []alert.Threshold, err error) {
	keys, err := learn.Keys(c)
	if err != nil {
		return nil, err
	}
	err = l.db.Ask(ctx, learnQuestion(learn, keys[:], now), func(row []any) error {
		var values [len(keys)]string
		at := 2
		for d, key := range keys {
			if key >= 0 {
				values[d] = keyText(row[at])
				at++
			}
		}
		of, ok := learn.DimensionsOf(keys, values)
		value, is := number(row[0])
		if ok && is {
			entries = append(entries, alert.Threshold{Case: c.Name, Dimensions: of, Value: value})
		}
		return nil
	})
	if len(entries) == maxLearned {
		l.log.Warn("thresholds are learned for the keys with the most events only", zap.String("aggregation", learn.Of.Name), zap.Int("keys", maxLearned))
	}
	return entries, err
}

// learnQuestion asks for the measure, the number of events, and the group keys that are not -1, of
// each key with enough events.
func learnQuestion(learn *alert.Learn, keys []int, now time.Time) *store.Question {
	def := *learn.Of // with a measure that has no column: every group has the number of its events
	def.Measures = append(def.Measures[:len(def.Measures):len(def.Measures)], aggregation.Measure{Name: "events", Op: aggregation.Count})
	field := func(role store.Role, i int, kind event.Kind) store.Expr {
		return store.Expr{Op: store.OpField, Kind: kind, Field: store.Field{Role: role, Index: i}}
	}
	events := field(store.MeasureField, len(def.Measures)-1, event.Int)
	enough := store.Expr{Op: store.OpGreaterEqual, Kind: event.Bool, Args: []store.Expr{events, {Op: store.OpConstant, Kind: event.Int, Value: learn.AtLeast}}}
	q := &store.Question{
		Aggregation: &def, Per: aggregation.Days, Patient: true, Having: &enough, Limit: maxLearned,
		Order:  []store.Order{{By: events, Descending: true}},
		Select: []store.Expr{field(store.MeasureField, learn.Measure, def.Measures[learn.Measure].Kind()), events},
	}
	q.From, q.Until = learn.Interval(now)
	for _, key := range keys {
		if key >= 0 {
			of := field(store.KeyField, key, def.Keys[key].Kind)
			q.Group, q.Select = append(q.Group, of.Field), append(q.Select, of)
			q.Order = append(q.Order, store.Order{By: of})
		}
	}
	return q
}

// keyText is a part of a key as alerts show it.
func keyText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return ""
}

// number is a measure's value; there may be none.
func number(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}
