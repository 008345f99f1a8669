package aggregation

import (
	"encoding/binary"
	"fmt"
	"math"

	"weir/pkg/event"
)

// deviation computes the population standard deviation, √(Σ(x-mean)²/n), as
// Siddhi's stdDev does. One by one it adds by Welford's formula, together by
// Chan's: no difference of great numbers is taken, and another order changes
// no more than the last digits.
type deviation struct {
	n       uint64
	mean    float64
	squares float64 // Σ(x-mean)²
}

func (d *deviation) add(value event.Cell) {
	v := value.Float()
	if !finite(v) {
		return
	}
	d.n++
	delta := v - d.mean
	d.mean += delta / float64(d.n)
	d.squares += delta * (v - d.mean)
}

func (d *deviation) merge(payload []byte) error {
	if payload[0] != formatMoments {
		return fmt.Errorf("%w: format %d is none of a standard deviation", errBlock, payload[0])
	}
	n, size := binary.Uvarint(payload[1:])
	if size <= 0 || n > maxBinCount || len(payload) != 1+size+16 {
		return fmt.Errorf("%w: %d bytes of moments", errBlock, len(payload))
	}
	floats := payload[1+size:]
	mean := math.Float64frombits(binary.LittleEndian.Uint64(floats))
	squares := math.Float64frombits(binary.LittleEndian.Uint64(floats[8:]))
	if squares < 0 {
		return fmt.Errorf("%w: a negative sum of squares", errBlock)
	}
	switch {
	case n == 0:
	case d.n == 0:
		*d = deviation{n, mean, squares}
	default:
		a, b := float64(d.n), float64(n)
		delta := mean - d.mean
		d.n += n
		d.mean += delta * (b / (a + b))
		d.squares += squares + delta*delta*(a*b/(a+b))
	}
	return nil
}

func (d *deviation) appendTo(out []byte) []byte {
	out = binary.AppendUvarint(append(out, formatMoments), d.n)
	out = binary.LittleEndian.AppendUint64(out, math.Float64bits(d.mean))
	return binary.LittleEndian.AppendUint64(out, math.Float64bits(d.squares))
}

func (d *deviation) value(Measure) (event.Cell, bool) {
	return event.FloatCell(math.Sqrt(d.squares / float64(d.n))), d.n > 0
}

func (d *deviation) held() int { return 3 * cellSize }
