package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"weir/pkg/aggregation"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// join reads join and join_type: the second aggregation that the question is
// about, and the columns of both.
func (p *parsing) join(catalog *definition.Catalog) error {
	first := p.plan.Aggregation
	p.columns = columnsOf(first)
	name, kind := p.values.Get("join"), p.values.Get("join_type")
	if name == "" {
		if kind != "" {
			return errors.New("join_type is about a join: give the other aggregation too, as in join=NAME")
		}
		return nil
	}
	second, err := find(catalog, name)
	switch {
	case err != nil:
		return fmt.Errorf("join: %w", err)
	case second == first:
		return fmt.Errorf("join: %s is what is asked already; join=NAME names another aggregation", first.Name)
	case first.Zone.String() != second.Zone.String():
		return fmt.Errorf("join: %s cuts its buckets by the time of %s and %s by that of %s; only buckets of one time zone are the same",
			first.Name, first.Zone, second.Name, second.Zone)
	}
	j := &store.Join{With: second, Keys: commonKeys(first, second)}
	switch kind {
	case "", "full":
	case "inner":
		j.NeedFirst, j.NeedSecond = true, true
	case "left":
		j.NeedFirst = true
	case "right":
		j.NeedSecond = true
	default:
		return fmt.Errorf("join_type: there is no %q%s; it is full (the default), inner, left or right",
			kind, didYouMean(kind, []string{"full", "inner", "left", "right"}))
	}
	p.plan.Join = j
	p.columns = joinedColumns(first, j)
	return nil
}

// commonKeys are the group keys that have one name and one kind in both.
func commonKeys(first, second *aggregation.Definition) map[int]int {
	common := map[int]int{}
	for i, key := range first.Keys {
		if k := slices.Index(second.Keys, key); k >= 0 {
			common[i] = k
		}
	}
	return common
}

// joinedColumns are the columns of both aggregations: bucket, common keys,
// measures of the first, measures of the second after its name, shard_id.
func joinedColumns(first *aggregation.Definition, j *store.Join) columns {
	second := j.With
	cs := columns{aggregation: first.Name, joined: second.Name, hints: map[string]string{}}
	var common []string
	for i, key := range first.Keys {
		if _, ok := j.Keys[i]; ok {
			common = append(common, key.Name)
		}
	}
	has := strings.Join(append([]string{"bucket"}, common...), ", ")
	for _, def := range []*aggregation.Definition{first, second} {
		for _, key := range def.Keys {
			if slices.Contains(common, key.Name) {
				continue
			}
			hint := fmt.Sprintf("%s is a group key of %s alone; a join goes by what both have, which is %s", key.Name, def.Name, has)
			if first.KeyIndex(key.Name) >= 0 && second.KeyIndex(key.Name) >= 0 {
				hint = fmt.Sprintf("%s is not of one type in %s and %s; a join goes by what both have, which is %s", key.Name, first.Name, second.Name, has)
			}
			cs.hints[strings.ToLower(key.Name)] = hint
		}
	}
	for _, c := range columnsOf(first).all {
		if _, ok := j.Keys[c.field.Index]; ok || c.field.Role != store.KeyField {
			cs.all = append(cs.all, c)
		}
	}
	shard := cs.all[len(cs.all)-1]
	cs.all = cs.all[:len(cs.all)-1]
	for i, m := range second.Measures {
		name := second.Name + "." + m.Name
		cs.all = append(cs.all, column{name, m.Kind(), store.Field{Role: store.MeasureField, Index: i, Joined: true}, m.Sketched()})
		if _, ok := cs.find(m.Name); ok {
			continue
		}
		cs.hints[strings.ToLower(m.Name)] = fmt.Sprintf("%s is a measure of %s: write %s", m.Name, second.Name, name)
	}
	cs.all = append(cs.all, shard)
	return cs
}

// bothKeep says which granularities a question can be asked per.
func bothKeep(first, second *aggregation.Definition) string {
	var kept []string
	for _, g := range first.Granularities {
		if second == nil || second.Keeps(g) {
			kept = append(kept, g.String())
		}
	}
	list := strings.Join(kept, ", ")
	switch {
	case second == nil:
		return first.Name + " keeps " + list
	case len(kept) == 0:
		return fmt.Sprintf("%s and %s keep none that is the same", first.Name, second.Name)
	}
	return fmt.Sprintf("%s and %s both keep %s", first.Name, second.Name, list)
}

// qualified finds a column that was written after the name of an aggregation.
func (cs columns) qualified(name string) (column, bool) {
	of, rest, ok := strings.Cut(name, ".")
	if !ok || rest == "" {
		return column{}, false
	}
	c, ok := cs.find(rest)
	if strings.EqualFold(of, cs.aggregation) && !c.field.Joined {
		return c, ok
	}
	if strings.EqualFold(of, cs.joined) && c.field.Role != store.MeasureField {
		return c, ok
	}
	return column{}, false
}
