package aggregation

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"

	"weir/pkg/event"
)

const (
	// exactDistinct is up to how many values are counted exactly, by their
	// 64-bit hashes.
	exactDistinct = 512
	// registersLog2 sets the error beyond: 1.04/√2^16 = 0.4 % is one standard
	// deviation, so that 2 % are five. With 2^14 registers one count in seventy
	// would be further off.
	registersLog2 = 16
)

// distinct counts different values: exactly while they are few, then by
// HyperLogLog. Which of the two, and what it estimates, depends on the values
// alone, not on how they came together.
type distinct struct {
	hashes []uint64 // ascending, while registers is nil
	many   *hyperloglog.Sketch
}

// hashOf hashes a value. The hashes are stored: they must never change.
func hashOf(kind event.Kind, cell event.Cell, dict *event.Dictionary) event.Cell {
	if kind == event.String {
		return event.Cell(xxhash.Sum64String(dict.Text(cell)))
	}
	if kind == event.Float && cell.Float() == 0 {
		cell = 0 // -0 is 0
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(cell))
	return event.Cell(xxhash.Sum64(b[:]))
}

func (d *distinct) add(value event.Cell) { d.insert(uint64(value)) }

func (d *distinct) insert(hash uint64) {
	if d.many != nil {
		d.many.InsertHash(hash)
		return
	}
	i, found := slices.BinarySearch(d.hashes, hash)
	if found {
		return
	}
	d.hashes = slices.Insert(d.hashes, i, hash)
	if len(d.hashes) > exactDistinct {
		d.estimate()
	}
}

// estimate goes over from hashes to registers.
func (d *distinct) estimate() {
	if d.many == nil {
		d.many = newRegisters()
		for _, hash := range d.hashes {
			d.many.InsertHash(hash)
		}
		d.hashes = nil
	}
}

func newRegisters() *hyperloglog.Sketch {
	registers, err := hyperloglog.NewSketch(registersLog2, true)
	if err != nil {
		panic(err) // the precision is one that there is
	}
	return registers
}

func (d *distinct) merge(payload []byte) error {
	switch payload[0] {
	case formatHashes:
		payload = payload[1:]
		if len(payload)%8 != 0 {
			return fmt.Errorf("%w: %d bytes of hashes", errBlock, len(payload))
		}
		for ; len(payload) > 0; payload = payload[8:] {
			d.insert(binary.LittleEndian.Uint64(payload))
		}
		return nil
	case formatRegisters:
		other := newRegisters()
		if err := other.UnmarshalBinary(payload[1:]); err != nil {
			return fmt.Errorf("%w: %w", errBlock, err)
		}
		d.estimate()
		if err := d.many.Merge(other); err != nil {
			return fmt.Errorf("%w: %w", errBlock, err)
		}
		return nil
	}
	return fmt.Errorf("%w: format %d is none of a distinct count", errBlock, payload[0])
}

func (d *distinct) appendTo(out []byte) []byte {
	if d.many == nil {
		out = append(out, formatHashes)
		for _, hash := range d.hashes {
			out = binary.LittleEndian.AppendUint64(out, hash)
		}
		return out
	}
	d.many.Estimate() // sorts what came last into the list, which halves it
	out, err := d.many.AppendBinary(append(out, formatRegisters))
	if err != nil {
		panic(err) // it has a precision
	}
	return out
}

func (d *distinct) value(Measure) (event.Cell, bool) {
	if d.many == nil {
		return event.Cell(len(d.hashes)), true
	}
	return event.Cell(min(d.many.Estimate(), math.MaxInt64)), true
}

func (d *distinct) held() int {
	const registers = 1 << registersLog2 // bytes
	if d.many != nil {
		return registers
	}
	return 64 + cellSize*cap(d.hashes)
}
