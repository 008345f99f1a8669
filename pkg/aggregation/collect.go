package aggregation

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch/mapping"

	"weir/pkg/event"
)

// collected is the values of a sketched measure in one bucket, as they came.
type collected struct {
	values []event.Cell // as the sketch adds them
	groups []int32
}

func (c *collected) add(m *Measure, dict *event.Dictionary, cells []event.Cell, rows, groups []int32) {
	c.groups = append(c.groups, groups...)
	for _, row := range rows {
		c.values = append(c.values, m.operand(cells[row], dict))
	}
}

func (c *collected) reset() { c.values, c.groups = c.values[:0], c.groups[:0] }

// sketchPacker makes sketches of collected values, as bytes: what sketch.add and
// appendBlock would make of them, without an object for each group.
type sketchPacker struct {
	blocks slab[[]byte]
	bytes  []byte
	places []int32
	values []event.Cell // group by group
	bins   []int32
	index  mapping.IndexMapping
}

func (p *sketchPacker) reset() {
	p.blocks.reset()
	p.bytes = p.bytes[:0]
}

// pack returns the sketches of n groups from start on, and forgets the values.
func (p *sketchPacker) pack(op Op, c *collected, start, n int) [][]byte {
	blocks := p.blocks.take(n)
	p.sort(c, start, n)
	from := int32(0)
	for i := range blocks {
		to := p.places[i]
		at := len(p.bytes)
		p.bytes = p.appendBlock(op, p.values[from:to])
		blocks[i] = p.bytes[at:len(p.bytes):len(p.bytes)]
		from = to
	}
	c.reset()
	return blocks
}

// sort puts the values in the order of their groups, those of a group as they
// came; afterwards places are where groups end.
func (p *sketchPacker) sort(c *collected, start, n int) {
	p.places = slices.Grow(p.places[:0], n+1)[:n+1]
	clear(p.places)
	for _, g := range c.groups {
		p.places[int(g)-start+1]++
	}
	for i := range n {
		p.places[i+1] += p.places[i]
	}
	p.values = slices.Grow(p.values[:0], len(c.values))[:len(c.values)]
	for i, g := range c.groups {
		place := &p.places[int(g)-start]
		p.values[*place] = c.values[i]
		*place++
	}
}

// appendBlock appends the sketch of a group's values, which it may reorder.
func (p *sketchPacker) appendBlock(op Op, values []event.Cell) []byte {
	start := len(p.bytes)
	out := append(p.bytes, 0) //nolint:gocritic // for the length; the caller keeps it
	switch op {
	case Quantile:
		out = p.appendQuantile(out, values)
	case Deviation:
		var d deviation
		for _, v := range values {
			d.add(v)
		}
		out = d.appendTo(out)
	case Distinct:
		out = p.appendDistinct(out, values)
	case Count, Sum, Avg, Min, Max, First, Last:
	}
	return endBlock(out, start)
}

// appendDistinct is distinct.appendTo.
func (p *sketchPacker) appendDistinct(out []byte, values []event.Cell) []byte {
	if len(values) > exactDistinct {
		var d distinct
		for _, v := range values {
			d.add(v)
		}
		return d.appendTo(out)
	}
	out = append(out, formatHashes)
	slices.SortFunc(values, func(a, b event.Cell) int { return cmp.Compare(uint64(a), uint64(b)) }) //nolint:gosec // bits
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			out = binary.LittleEndian.AppendUint64(out, uint64(v)) //nolint:gosec // bits
		}
	}
	return out
}

// appendQuantile is quantile.appendTo.
func (p *sketchPacker) appendQuantile(out []byte, values []event.Cell) []byte {
	if p.index == nil {
		p.index = newQuantile().bins.IndexMapping
	}
	least, most := p.index.MinIndexableValue(), p.index.MaxIndexableValue()
	zeros := uint64(0)
	for _, value := range values {
		if v := value.Float(); finite(v) && v <= least && v >= -least {
			zeros++
		}
	}
	out = binary.AppendUvarint(append(out, formatBins), zeros)
	for _, sign := range []float64{1, -1} {
		p.bins = p.bins[:0]
		for _, value := range values {
			if v := sign * value.Float(); finite(v) && v > least {
				p.bins = append(p.bins, int32(p.index.Index(min(v, most)))) //nolint:gosec // some 10^5 bins
			}
		}
		slices.Sort(p.bins)
		out = appendSortedBins(out, p.bins)
	}
	return out
}

// appendSortedBins is appendBins for the bins of values, one by one.
func appendSortedBins(out []byte, bins []int32) []byte {
	different := uint64(0)
	for i, bin := range bins {
		if i == 0 || bin != bins[i-1] {
			different++
		}
	}
	out = binary.AppendUvarint(out, different)
	before := int32(0)
	for i := 0; i < len(bins); {
		n := 1
		for i+n < len(bins) && bins[i+n] == bins[i] {
			n++
		}
		out = binary.AppendVarint(out, int64(bins[i]-before))
		out = binary.AppendUvarint(out, uint64(n)) //nolint:gosec // at least 1
		before = bins[i]
		i += n
	}
	return out
}
