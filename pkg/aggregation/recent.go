package aggregation

import (
	"slices"

	"weir/pkg/event"
)

// knownDictionaries is how many dictionaries are remembered: those of the few
// batches that take turns.
const knownDictionaries = 4

// recent remembers a T of each of the dictionaries that were used last, the last
// one first.
type recent[T any] []ofDictionary[T]

type ofDictionary[T any] struct {
	dict  *event.Dictionary
	value *T
}

// of returns that of the dictionary: an empty one, if none is remembered.
func (r *recent[T]) of(dict *event.Dictionary) *T {
	at := slices.IndexFunc(*r, func(o ofDictionary[T]) bool { return o.dict == dict })
	if at < 0 {
		at = 0
		*r = slices.Insert((*r)[:min(len(*r), knownDictionaries-1)], 0, ofDictionary[T]{dict, new(T)})
	}
	used := (*r)[at]
	copy((*r)[1:at+1], (*r)[:at])
	(*r)[0] = used
	return used.value
}
