package definition

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/pkg/aggregation"
	"weir/pkg/event"
)

func (b *builder) addAggregation(d *document, text aggregationText) {
	name := text.name.Value
	r := d.within("aggregation %q", name)
	if !aggregationName.MatchString(name) {
		r.bad(text.name.Node, "a name is 1 to 40 letters, digits and _, and does not begin with a digit")
	}
	fresh := b.take(d.reader, text.name.Node, "aggregation", name)
	def := &aggregation.Definition{
		Name: name, Doc: text.doc.text(), PartitionByID: !b.options.NotByID,
		Granularities: r.every(text), Zone: r.zone(text.zone),
	}
	if text.partition.given() {
		def.PartitionByID = r.bool("partition_by_id", text.partition)
	}
	def.Retention = r.retention(def, text.retention)
	streams := b.from(d, r, text)
	for _, s := range streams {
		def.Inputs = append(def.Inputs, aggregation.Input{Stream: s.schema.Name, Where: -1})
	}
	where, _, _ := across(r.within("where"), text.where.Node, streams, func(s *stream) (int, event.Kind, error) {
		return s.filter(text.where, s.resolve)
	})
	for i := range where {
		def.Inputs[i].Where = where[i]
	}
	if text.where.given() {
		def.Filter = strings.TrimSpace(text.where.Value)
	}
	columns := map[string]bool{}
	for _, key := range text.groupBy {
		r.addKey(def, streams, key, columns)
	}
	def.MaxGroups = r.maxGroups(def, text)
	if len(text.columns) == 0 {
		r.bad(text.name.Node, "select is missing: the columns to compute, as in \"total: count()\"")
	}
	for _, p := range text.columns {
		r.addMeasure(def, streams, p, columns)
	}
	if fresh {
		b.takeTables(r, text.name.Node, def)
	}
	b.catalog.Aggregations = append(b.catalog.Aggregations, def)
}

// takeTables reserves the tables of an aggregation: 15 minutes of A would have
// the one that minutes of A_15 have.
func (b *builder) takeTables(r reader, n *yaml.Node, def *aggregation.Definition) {
	for _, level := range def.Granularities {
		id := "table " + def.Table(level)
		if other, ok := b.taken[id]; ok {
			r.bad(n, "its %s would be in the table %s, which is that of the %s: rename one of the two", level, def.Table(level), other)
			continue
		}
		b.taken[id] = fmt.Sprintf("%s of aggregation %q, at %s:%d", level, def.Name, r.file, n.Line)
	}
}

// from returns the streams that feed the aggregation, without unknown ones.
func (b *builder) from(d *document, r reader, text aggregationText) []*stream {
	names := text.from
	if len(names) == 0 {
		if !d.stream.given() {
			r.bad(text.name.Node, "from is missing: the file defines no stream that could be the default")
			return nil
		}
		names = []scalar{d.stream}
	}
	var streams []*stream
	for _, name := range names {
		s := b.stream(r.within("from"), name)
		switch {
		case s == nil:
		case slices.Contains(streams, s):
			r.within("from").bad(name.Node, "stream %q is listed twice", name.Value)
		default:
			streams = append(streams, s)
		}
	}
	return streams
}

func (r reader) every(text aggregationText) []aggregation.Granularity {
	if len(text.every) == 0 {
		r.bad(text.name.Node, "every is missing: the granularities to keep, as in \"seconds...years\"")
		return nil
	}
	var items []string
	for _, s := range text.every {
		items = append(items, s.Value)
	}
	levels, err := parseEvery(items)
	if err == nil {
		err = aggregation.CheckLevels(levels)
	}
	if err != nil {
		r.bad(text.every[0].Node, "every: %v", err)
	}
	return levels
}

func (r reader) zone(s scalar) *time.Location {
	if !s.given() {
		return time.UTC
	}
	zone, err := time.LoadLocation(s.Value)
	if err != nil || s.Value == "" || s.Value == "Local" { // Local is another zone on every machine
		r.bad(s.Node, "unknown time zone %q: use a name of the IANA database, as in Europe/Paris, or UTC", s.Value)
		return time.UTC
	}
	return zone
}

func (r reader) retention(def *aggregation.Definition, pairs []pair) map[aggregation.Granularity]time.Duration {
	r = r.within("retention")
	kept := map[aggregation.Granularity]time.Duration{}
	for _, p := range pairs {
		g, err := parseGranularity(p.name.Value)
		if err != nil {
			r.bad(p.name.Node, "%v", err)
			continue
		}
		if _, twice := kept[g]; twice {
			r.bad(p.name.Node, "%s is given twice", g)
		}
		if len(def.Granularities) > 0 && !def.Keeps(g) {
			r.bad(p.name.Node, "%s is not kept: every has %s", g, join(def.Granularities))
			continue
		}
		if kept[g], err = retention(g, p.value.Value); err != nil {
			r.bad(p.value.Node, "%s: %v", g, err)
		}
	}
	for _, g := range def.Granularities {
		if _, given := kept[g]; !given {
			kept[g] = defaultRetention(g)
		}
	}
	return kept
}

func join(levels []aggregation.Granularity) string {
	var names []string
	for _, g := range levels {
		names = append(names, g.String())
	}
	return strings.Join(names, ", ")
}

func (r reader) addKey(def *aggregation.Definition, streams []*stream, key scalar, columns map[string]bool) {
	r = r.within("group_by")
	if columns[strings.ToLower(key.Value)] {
		r.bad(key.Node, "%q is listed twice", key.Value)
		return
	}
	at, kind, ok := across(r.within("%q", key.Value), key.Node, streams, func(s *stream) (int, event.Kind, error) {
		return s.attribute(key.Value)
	})
	if !ok {
		return
	}
	switch {
	case reservedColumn(key.Value):
		r.bad(key.Node, "%q is a name that the tables use themselves: derive an attribute of another name", key.Value)
	case systemColumn(key.Value):
		r.bad(key.Node, "%q is a column that Postgres has in every table: derive an attribute of another name", key.Value)
	}
	columns[strings.ToLower(key.Value)] = true
	def.Keys = append(def.Keys, aggregation.Key{Name: key.Value, Kind: kind})
	for i := range at {
		def.Inputs[i].Keys = append(def.Inputs[i].Keys, at[i])
	}
}

// maxGroups reads the cap of groups per bucket and shard. Without a text key
// there is none: no key could say "others".
func (r reader) maxGroups(def *aggregation.Definition, text aggregationText) int {
	capped := slices.ContainsFunc(def.Keys, func(k aggregation.Key) bool { return k.Kind == event.String })
	s := text.maxGroups
	switch {
	case !s.given() && capped:
		return aggregation.DefaultMaxGroups
	case !s.given() || s.Value == "all":
		return 0
	}
	var n int32
	switch {
	case s.Tag != "!!int" || s.Decode(&n) != nil || n < 1:
		r.bad(s.Node, "max_groups must be a whole number from 1 to 2147483647, or all for no cap, it is %s", describe(s.Node))
	case !capped && len(def.Keys) == len(text.groupBy): // all keys are known
		r.bad(s.Node, "max_groups needs a group key that is a string, to hold %s for the groups beyond it: leave it out, or group by a text",
			aggregation.OtherGroup)
	}
	return int(n)
}

func (r reader) addMeasure(def *aggregation.Definition, streams []*stream, p pair, columns map[string]bool) {
	name := p.name.Value
	r = r.within("select %q", name)
	switch {
	case def.KeyIndex(name) >= 0:
		r.bad(p.name.Node, "is a group key, which is a column by itself: leave it out")
		return
	case columns[strings.ToLower(name)]:
		r.bad(p.name.Node, "there is a column of that name already (names that differ only in case are the same)")
		return
	case !attributeName.MatchString(name):
		r.bad(p.name.Node, "a name is 1 to 50 letters, digits and _, and does not begin with a digit")
		return
	case reservedColumn(name):
		r.bad(p.name.Node, "is a name that the tables use themselves")
		return
	case systemColumn(name):
		r.bad(p.name.Node, "is a column that Postgres has in every table: take another name")
		return
	case len(def.Measures) == aggregation.MaxMeasures:
		r.bad(p.name.Node, "is one too many: an aggregation has at most %d measures; put the others into a second one", aggregation.MaxMeasures)
		return
	}
	columns[strings.ToLower(name)] = true
	m, err := parseMeasure(p.value.Value)
	if err != nil {
		r.bad(p.value.Node, "%v", err)
		return
	}
	m.Name = name
	at := slices.Repeat([]int{-1}, len(streams))
	if m.Arg != "" {
		var ok bool
		at, m.ArgKind, ok = across(r, p.value.Node, streams, func(s *stream) (int, event.Kind, error) { return s.resolve(m.Arg) })
		if !ok {
			return
		}
	}
	if err := checkArgument(m); err != nil {
		r.bad(p.value.Node, "%v", err)
		return
	}
	m.Shares = shares(def, m)
	def.Measures = append(def.Measures, m)
	for i := range def.Inputs {
		def.Inputs[i].Args = append(def.Inputs[i].Args, at[i])
	}
}
