package aggregation

import (
	"cmp"
	"slices"
)

// ordering puts rows in the order of their buckets, and those of one bucket in
// the order in which they were added, in time that is linear in the rows. It is
// used again and again, so that it allocates nothing.
type ordering struct {
	runs []run
	rows []int32 // row numbers, run by run

	numbers []int32         // by row that was added: its number, and its run's in the order of appearance
	of      []int32         // of which run
	found   map[int64]int32 // runs by bucket
	sorted  []int32
	places  []int32
}

// run is the rows of one bucket: ordering.rows from..to.
type run struct {
	bucket   int64
	from, to int32
}

func (o *ordering) reset() {
	o.runs, o.rows, o.numbers, o.of = o.runs[:0], o.rows[:0], o.numbers[:0], o.of[:0]
	if o.found == nil {
		o.found = map[int64]int32{}
	}
	clear(o.found)
}

// run returns the number of the bucket's run, for add.
func (o *ordering) run(bucket int64) int32 {
	at, ok := o.found[bucket]
	if !ok {
		at = int32(len(o.runs)) // no more than rows
		o.found[bucket] = at
		o.runs = append(o.runs, run{bucket: bucket})
	}
	return at
}

// add adds a row to a run. A batch, and a table, has far fewer than 2^31 rows.
func (o *ordering) add(row, to int32) {
	o.numbers = append(o.numbers, row)
	o.of = append(o.of, to)
	o.runs[to].to++
}

// order sorts the runs and lists their rows.
func (o *ordering) order() {
	if len(o.runs) <= 1 {
		o.rows, o.numbers = o.numbers, o.rows
		return
	}
	o.sorted, o.places = o.sorted[:0], slices.Grow(o.places[:0], len(o.runs))[:len(o.runs)]
	for i := range o.runs {
		o.sorted = append(o.sorted, int32(i)) // no more than rows
	}
	slices.SortFunc(o.sorted, func(a, b int32) int { return cmp.Compare(o.runs[a].bucket, o.runs[b].bucket) })
	at := int32(0)
	for _, i := range o.sorted {
		r := &o.runs[i]
		n := r.to
		o.places[i], r.from, r.to = at, at, at+n
		at += n
	}
	o.rows = slices.Grow(o.rows[:0], len(o.numbers))[:len(o.numbers)]
	for i, row := range o.numbers {
		place := &o.places[o.of[i]]
		o.rows[*place] = row
		*place++
	}
	slices.SortFunc(o.runs, func(a, b run) int { return cmp.Compare(a.from, b.from) })
}

// slab hands out slices that are all taken back at once.
type slab[T any] struct {
	free []T
	all  []T
	used int
}

// take returns n elements, which are not cleared. It grows by a quarter of what is taken, not by as much again: what
// is packed at once can be a good part of what a worker may take.
func (s *slab[T]) take(n int) []T {
	s.used += n
	if n > len(s.free) {
		s.all = make([]T, max(n, s.used/4, 1024))
		s.free = s.all
	}
	taken := s.free[:n:n]
	s.free = s.free[n:]
	return taken
}

// reset takes everything back, and gives memory back of which little was used.
func (s *slab[T]) reset() {
	if s.used > len(s.all) || 8*s.used < len(s.all) {
		s.all = make([]T, s.used)
	}
	s.free, s.used = s.all, 0
}
