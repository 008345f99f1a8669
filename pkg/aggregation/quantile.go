package aggregation

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"

	"weir/pkg/event"
)

// quantileError is the greatest relative error of a quantile. It is half of
// what is promised, so that a value between two samples of nearly the same
// size is within the promise by any definition of a quantile. It sets the
// meaning of what is stored: another error needs another format.
const quantileError = 0.005

// maxBinCount is the greatest number of values in a bin: floats count so far.
const maxBinCount = 1 << 53

// quantile counts values in bins whose bounds grow by a factor (DDSketch), for
// values of either sign; what lies nearer to 0 than 10^-307 is 0. The value of
// percent p is that of the value number ⌊p/100·(n-1)⌋ of n in ascending order,
// from 0, with a relative error of at most quantileError.
type quantile struct{ bins *ddsketch.DDSketch }

func newQuantile() *quantile {
	m, err := mapping.NewCubicallyInterpolatedMapping(quantileError)
	if err != nil {
		panic(err) // the error is between 0 and 1
	}
	return &quantile{bins: ddsketch.NewDDSketch(m, store.NewBufferedPaginatedStore(), store.NewBufferedPaginatedStore())}
}

func (q *quantile) add(value event.Cell) {
	v := value.Float()
	if !finite(v) {
		return
	}
	most := q.bins.MaxIndexableValue()
	_ = q.bins.Add(max(-most, min(v, most))) // it refuses what is not between these bounds
}

func (q *quantile) merge(payload []byte) error {
	if payload[0] != formatBins {
		return fmt.Errorf("%w: format %d is none of a quantile", errBlock, payload[0])
	}
	r := blockReader{rest: payload[1:]}
	if zero := r.count(0); zero > 0 {
		r.check(q.bins.AddWithCount(0, zero))
	}
	lowest, highest := q.bins.Index(q.bins.MinIndexableValue()), q.bins.Index(q.bins.MaxIndexableValue())
	for _, side := range []store.Store{q.bins.GetPositiveValueStore(), q.bins.GetNegativeValueStore()} {
		bins := r.uvarint()
		if bins > uint64(len(r.rest)/2) {
			r.check(fmt.Errorf("%d bins", bins))
		}
		index := 0
		for i := uint64(0); i < bins && r.err == nil; i++ {
			step := r.varint()
			if i > 0 && step <= 0 || step < -maxBinCount || step > maxBinCount {
				r.check(fmt.Errorf("a step of %d", step))
				break
			}
			index += int(step)
			if index < lowest || index > highest {
				r.check(fmt.Errorf("bin %d", index))
			}
			if n := r.count(1); r.err == nil {
				side.AddWithCount(index, n)
			}
		}
	}
	return r.end()
}

// appendTo writes the number of zeros, and for positive and for negative
// values the number of bins and each one's distance from the one before and
// count.
func (q *quantile) appendTo(out []byte) []byte {
	out = append(out, formatBins)
	out = binary.AppendUvarint(out, uint64(q.bins.GetZeroCount()))
	for _, side := range []store.Store{q.bins.GetPositiveValueStore(), q.bins.GetNegativeValueStore()} {
		out = appendBins(out, side)
	}
	return out
}

func appendBins(out []byte, side store.Store) []byte {
	bins := uint64(0)
	side.ForEach(func(int, float64) bool { bins++; return false })
	out = binary.AppendUvarint(out, bins)
	before := 0
	side.ForEach(func(index int, n float64) bool { // ascending
		out = binary.AppendVarint(out, int64(index-before))
		out = binary.AppendUvarint(out, uint64(n))
		before = index
		return false
	})
	return out
}

// value goes by whole ranks: DDSketch's own would round them up among negative
// values and down among others.
func (q *quantile) value(m Measure) (event.Cell, bool) {
	n := q.bins.GetCount()
	if n == 0 {
		return 0, false
	}
	below, above := q.bins.GetNegativeValueStore(), q.bins.GetPositiveValueStore()
	rank, negative := math.Floor(m.Percent/100*(n-1)), below.TotalCount()
	value := 0.0
	switch {
	case rank < negative:
		value = -q.bins.Value(below.KeyAtRank(negative - 1 - rank))
	case rank >= negative+q.bins.GetZeroCount():
		value = q.bins.Value(above.KeyAtRank(rank - negative - q.bins.GetZeroCount()))
	}
	return event.FloatCell(value), true
}

// blockReader reads numbers; after the first error all are 0, and end returns
// it.
type blockReader struct {
	rest []byte
	err  error
}

func (r *blockReader) check(err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%w: %w", errBlock, err)
	}
}

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

func (r *blockReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

// skip passes over n bytes that were read; there were too few if n is not
// positive.
func (r *blockReader) skip(n int) bool {
	if r.err == nil && n <= 0 {
		r.err = fmt.Errorf("%w: it is cut short", errBlock)
	}
	if r.err != nil {
		return false
	}
	r.rest = r.rest[n:]
	return true
}

// count reads how many values there are, no fewer than least.
func (r *blockReader) count(least uint64) float64 {
	n := r.uvarint()
	if n < least || n > maxBinCount {
		r.check(fmt.Errorf("a count of %d", n))
		return 0
	}
	return float64(n)
}

func (r *blockReader) end() error {
	if len(r.rest) > 0 {
		r.check(fmt.Errorf("%d bytes too many", len(r.rest)))
	}
	return r.err
}

// held is for values that spread over two orders of magnitude: the bins are the
// library's own.
func (q *quantile) held() int { return 4 << 10 }
