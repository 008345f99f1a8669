package aggregation

import "math"

// work is what blocks of events need on their way into groups.
type work struct {
	index  groupIndex
	hashes []uint64
	groups []int32 // by event
	fresh  []int32 // rows of events that began a group
}

// foldRows is how many events are looked at together.
const foldRows = 1024

// find finds the groups of a block by their hashes, and begins those that are
// not there.
func (s *folding) find(w *work, rows []int32, start int) {
	x := &w.index
	for i, hash := range w.hashes {
		at := hash & x.mask
		for {
			slot := x.slots[at]
			if uint32(slot) < x.first { // free, or of a bucket before
				x.slots[at] = hash>>32<<32 | uint64(x.next)
				w.groups[i] = int32(start) + int32(x.next-x.first) //nolint:gosec // a batch has far fewer than 2^31 groups
				x.next++
				s.hashes = append(s.hashes, hash)
				w.fresh = append(w.fresh, rows[i])
				break
			}
			if slot>>32 == hash>>32 {
				w.groups[i] = int32(start) + int32(uint32(slot)-x.first) //nolint:gosec // as above
				break
			}
			at = (at + 1) & x.mask
		}
	}
}

// groupIndex finds groups of one bucket by their hashes: a slot has the upper 32
// bits of the hash, and in the lower the group's number, counted over all buckets
// and batches, so that nothing has to be cleared in between.
type groupIndex struct {
	slots       []uint64
	mask        uint64
	first, next uint32 // the numbers of the bucket's first group, and of the next one
}

// begin makes room for as many groups of another bucket.
func (x *groupIndex) begin(groups int) {
	size := 64
	for size < 2*groups {
		size *= 2
	}
	if size > len(x.slots) {
		x.slots, x.next = make([]uint64, size), 1
	}
	if uint64(x.next)+uint64(size) > math.MaxUint32 {
		clear(x.slots)
		x.next = 1
	}
	x.first, x.mask = x.next, uint64(size-1)
}
