package alert

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"slices"

	"weir/pkg/event"
)

// Thresholds are all that are set or learned, for the rules they were made for.
// They never change, so that any number of goroutines may look at them. nil has
// none.
type Thresholds struct{ bounds map[caseName]*Bounds }

type caseName struct{ rule, name string }

// NewThresholds returns the thresholds of the rules. Of an entry whose rule or
// case is not there, or whose dimensions its key does not have, nothing comes:
// definitions may have changed since it was set.
func NewThresholds(rules []*Rule, entries []Threshold) *Thresholds {
	byRule := map[string][]*Threshold{}
	for i := range entries {
		byRule[entries[i].Rule] = append(byRule[entries[i].Rule], &entries[i])
	}
	t := &Thresholds{map[caseName]*Bounds{}}
	for _, rule := range rules {
		if len(byRule[rule.Name]) == 0 {
			continue
		}
		for i := range rule.Cases {
			if b := newBounds(rule.by(&rule.Cases[i]), &rule.Cases[i], byRule[rule.Name]); b != nil {
				t.bounds[caseName{rule.Name, rule.Cases[i].Name}] = b
			}
		}
	}
	return t
}

// For returns what is set or learned for a case of a rule; nil is nothing.
func (t *Thresholds) For(rule, name string) *Bounds {
	if t == nil {
		return nil
	}
	return t.bounds[caseName{rule, name}]
}

// Bounds are the thresholds of one case of a rule, at least one. nil has none.
type Bounds struct {
	loosest float64 // of them and, unless it is unset, the rule's own: what does not break it breaks none of them
	probes  []probe // the one that decides first
	parts   []int   // of the key, that some probe looks at
}

// probe looks for the thresholds that have the same dimensions: in values, by
// those parts of the key.
type probe struct {
	parts  [dimensions]int // by dimension; -1: any
	values map[[dimensions]string]float64
}

// For returns the bound of one key, whose texts are in the order of the case's
// key, and whether there is one. Of those that hold for the key, one that a
// person set goes before those that are learned; then the one with the most
// dimensions; then, dimension by dimension in the order of DimensionNames, the
// one that has it; then one for the case before one for all cases.
func (b *Bounds) For(key []string) (value float64, found bool) {
	if b == nil {
		return 0, false
	}
	for i := range b.probes {
		p := &b.probes[i]
		var texts [dimensions]string
		for d, part := range p.parts {
			if part >= 0 {
				texts[d] = key[part]
			}
		}
		if value, found = p.values[texts]; found {
			return value, true
		}
	}
	return 0, false
}

// layer is what thresholds have in common that are looked for together.
type layer struct {
	learned bool
	mask    uint8 // of dimensions; the first is the highest bit
}

// before orders layers as [Bounds.For] says.
func (l layer) before(other layer) int {
	if l.learned != other.learned {
		if other.learned {
			return -1
		}
		return 1
	}
	return cmp.Or(bits.OnesCount8(other.mask)-bits.OnesCount8(l.mask), int(other.mask)-int(l.mask))
}

// has reports whether the layer's thresholds have the dimension.
func (l layer) has(dimension int) bool { return l.mask&(1<<(dimensions-1-dimension)) != 0 }

// newBounds returns the bounds that the entries of its rule give a case; nil is
// none.
func newBounds(rule *Rule, c *Case, entries []*Threshold) *Bounds {
	layers := map[layer]map[[dimensions]string]float64{}
	add := func(e *Threshold) {
		l := layer{learned: e.Learned}
		for i, value := range e.Values() {
			if value != "" {
				l.mask |= 1 << (dimensions - 1 - i)
			}
		}
		if layers[l] == nil {
			layers[l] = map[[dimensions]string]float64{}
		}
		layers[l][e.Values()] = e.Value
	}
	for _, e := range entries {
		if e.Case == "" {
			add(e)
		}
	}
	for _, e := range entries {
		if e.Case == c.Name && e.Case != "" {
			add(e) // in place of one for all cases
		}
	}
	b := &Bounds{}
	for _, l := range slices.SortedFunc(maps.Keys(layers), layer.before) {
		b.add(c, l, layers[l])
	}
	if len(b.probes) == 0 {
		return nil
	}
	b.loosen(rule)
	return b
}

// loosen finds the loosest bound.
func (b *Bounds) loosen(rule *Rule) {
	b.loosest = rule.Threshold
	if rule.Unset { // looser than no bound at all is every bound
		b.loosest = math.Inf(1)
		if rule.Below {
			b.loosest = math.Inf(-1)
		}
	}
	for i := range b.probes {
		for _, value := range b.probes[i].values {
			if rule.Below {
				b.loosest = max(b.loosest, value)
			} else {
				b.loosest = min(b.loosest, value)
			}
		}
	}
}

// add adds the probes of a layer: one, or, where the key has several parts for a
// dimension, one for each way to choose among them. A key without a part for some
// dimension has none.
func (b *Bounds) add(c *Case, l layer, values map[[dimensions]string]float64) {
	probes := []probe{{values: values}}
	for d := range dimensions {
		parts := []int{-1}
		if l.has(d) {
			parts = c.parts(d)
		}
		var chosen []probe
		for _, p := range probes {
			for _, part := range parts {
				p.parts[d] = part
				chosen = append(chosen, p)
				if part >= 0 && !slices.Contains(b.parts, part) {
					b.parts = append(b.parts, part)
				}
			}
		}
		probes = chosen
	}
	b.probes = append(b.probes, probes...)
}

// known are the bounds of one case, looked up once for each different key of a
// batch: what a hot loop asks.
type known struct {
	rule   *Rule
	c      *Case
	bounds *Bounds
	texts  []string // of a key, used again and again
	byKey  map[keyCells]bound
}

// keyCells are the cells of those parts of a key that dimensions are read from.
type keyCells [maxParts]event.Cell

// maxParts is how many attributes there are that dimensions are read from.
const maxParts = 9

type bound struct {
	value float64
	found bool
}

func newKnown(rule *Rule, c *Case, bounds *Bounds) *known {
	return &known{rule, c, bounds, make([]string, len(c.Key)), map[keyCells]bound{}}
}

// begin forgets the keys: their cells are of another batch.
func (k *known) begin() { clear(k.byKey) }

// of returns what the row's key must exceed, and whether there is such a bound.
func (k *known) of(columns *event.Columns, row int) (float64, bool) {
	var cells keyCells
	for i, part := range k.bounds.parts {
		cells[i] = columns.Cells[k.c.Key[part].Attribute][row]
	}
	b, ok := k.byKey[cells]
	if !ok {
		for _, part := range k.bounds.parts {
			k.texts[part] = cellText(columns, k.c.Key[part], row)
		}
		if b.value, b.found = k.bounds.For(k.texts); !b.found && !k.rule.Unset {
			b = bound{k.rule.Threshold, true}
		}
		k.byKey[cells] = b
	}
	return b.value, b.found
}
