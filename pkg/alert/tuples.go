package alert

import "math/bits"

// tuples numbers the different tuples of words that it is shown, from 0, in the order in which
// they come. All have the same width.
type tuples struct {
	width int
	words []uint64 // of all tuples, one after another
	slots []int32  // number + 1; 0 is free
}

// reset forgets all tuples.
func (t *tuples) reset(width int) {
	t.width, t.words = width, t.words[:0]
	clear(t.slots)
}

func (t *tuples) len() int {
	if t.width == 0 {
		return 0
	}
	return len(t.words) / t.width
}

// number returns the tuple's number, and whether it is a new one.
func (t *tuples) number(tuple []uint64) (int32, bool) {
	if 2*(t.len()+1) > len(t.slots) {
		t.grow()
	}
	mask := uint64(len(t.slots) - 1)
	for at := mix(tuple) & mask; ; at = (at + 1) & mask {
		n := t.slots[at]
		if n == 0 {
			t.words = append(t.words, tuple...)
			t.slots[at] = int32(t.len()) //nolint:gosec // at most the rows of a batch
			return int32(t.len() - 1), true
		}
		if t.equal(int(n-1), tuple) {
			return n - 1, false
		}
	}
}

func (t *tuples) equal(n int, tuple []uint64) bool {
	for i, word := range t.words[n*t.width : (n+1)*t.width] {
		if word != tuple[i] {
			return false
		}
	}
	return true
}

func (t *tuples) grow() {
	t.slots = make([]int32, max(64, 2*len(t.slots)))
	mask := uint64(len(t.slots) - 1)
	for n := range t.len() {
		at := mix(t.words[n*t.width:(n+1)*t.width]) & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = int32(n + 1) //nolint:gosec // at most the rows of a batch
	}
}

// mix hashes a tuple. Nobody outside chooses the words: texts are numbers of a dictionary; and
// a batch is bounded, so that numbers sent on purpose cost time but no more.
func mix(tuple []uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, word := range tuple {
		hi, lo := bits.Mul64(h^word, 0xd6e8feb86659fd93)
		h = hi ^ lo
	}
	return h
}
