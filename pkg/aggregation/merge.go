package aggregation

// Merge adds up the groups of one aggregation, of a level or of finer ones that
// it is made of, over all their parts: the outcome has one group per bucket of
// the level and key, save where an integer sum would leave 64 bits (see Fold) or
// a measure is not known of some, and stands for the same events. Corrupted
// sketches are an error.
func Merge(def *Definition, level Granularity, delta Delta) (Delta, error) {
	t := newMergeTable(def, level)
	if err := t.merge(delta.Parts, delta.Dict, delta.Dict); err != nil {
		return Delta{}, err
	}
	return Delta{Parts: t.pack(nil), Dict: delta.Dict}, nil
}
