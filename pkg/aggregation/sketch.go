package aggregation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"weir/pkg/event"
)

// sketch is the state of a measure that does not fit into a cell. It takes in
// values in any order, and what was encoded of others of its kind in any order
// and any split: the outcome is the same.
type sketch interface {
	// add takes in the value of one event, as operand makes it.
	add(value event.Cell)
	// merge takes in what appendTo wrote of another sketch of the kind.
	merge(payload []byte) error
	appendTo(out []byte) []byte
	// value is the measure's value, of the kind Measure.Kind; ok is false where
	// there is none because no value was taken in.
	value(m Measure) (cell event.Cell, ok bool)
	// held is about how many bytes of memory it takes.
	held() int
}

// The first byte of a payload says what follows. A change of format gets a new
// number, so that what is stored stays readable.
const (
	formatHashes    = 1 // distinct, few
	formatRegisters = 2 // distinct, many
	formatBins      = 3 // quantile
	formatMoments   = 4 // deviation
)

// errBlock is what is wrong with bytes that are no sketch.
var errBlock = errors.New("corrupted sketch")

func newSketch(op Op) sketch {
	switch op {
	case Distinct:
		return &distinct{}
	case Quantile:
		return newQuantile()
	case Deviation:
		return &deviation{}
	case Count, Sum, Avg, Min, Max, First, Last:
	}
	panic("aggregation: " + op.String() + " needs no sketch")
}

// encode writes a sketch as one block: the length of the payload as a uvarint,
// and the payload. Blocks one after another are the sketch of all their values,
// so that SQL merges sketches by joining them.
func encode(s sketch) []byte { return appendBlock(nil, s) }

// appendBlock is encode for a block after others.
func appendBlock(out []byte, s sketch) []byte {
	start := len(out)
	out = append(out, 0) // where payloads are short
	return endBlock(s.appendTo(out), start)
}

// endBlock writes the length of the payload of a block that begins with one
// byte for it.
func endBlock(out []byte, start int) []byte {
	payload := uint64(len(out) - start - 1)
	if payload < 1<<7 {
		out[start] = byte(payload)
		return out
	}
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], payload)
	return slices.Replace(out, start, start+1, length[:n]...)
}

// mergeBlocks takes in any number of blocks. After an error it is not known
// how much was taken in.
func mergeBlocks(s sketch, blocks []byte) error {
	for len(blocks) > 0 {
		length, n := binary.Uvarint(blocks)
		if n <= 0 || length == 0 || length > uint64(len(blocks)-n) {
			return fmt.Errorf("%w: a block is cut short", errBlock)
		}
		end := n + int(length)
		if err := s.merge(blocks[n:end]); err != nil {
			return err
		}
		blocks = blocks[end:]
	}
	return nil
}

// Finish computes the value of a sketched measure from the blocks that are
// stored of it, of any number of rows. The cell has the kind m.Kind(); ok is
// false where there is no value because there is no block. Bytes that are no
// blocks of the measure are an error.
func (m Measure) Finish(blocks []byte) (value event.Cell, ok bool, err error) {
	s := newSketch(m.Op)
	if err := mergeBlocks(s, blocks); err != nil {
		return 0, false, fmt.Errorf("%s: %w", m.Name, err)
	}
	value, ok = s.value(m)
	return value, ok, nil
}

// operand turns an argument into what the sketch of the op adds: a distinct
// count hashes, the others take floats.
func (m *Measure) operand(cell event.Cell, dict *event.Dictionary) event.Cell {
	switch {
	case m.Op == Distinct:
		return hashOf(m.ArgKind, cell, dict)
	case m.ArgKind == event.Int:
		return event.FloatCell(float64(cell))
	}
	return cell
}

// Function names what the measure computes as a definition may write it:
// "sum", "p99.9".
func (m Measure) Function() string {
	if m.Op == Quantile {
		return "p" + strconv.FormatFloat(m.Percent, 'g', -1, 64)
	}
	return m.Op.String()
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
