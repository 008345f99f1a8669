package alert

import (
	"encoding/binary"
	"math"
)

// appendTexts writes texts, their number first.
func appendTexts(to []byte, texts []string) []byte {
	to = binary.AppendUvarint(to, uint64(len(texts)))
	for _, text := range texts {
		to = append(binary.AppendUvarint(to, uint64(len(text))), text...)
	}
	return to
}

// appendNumber writes a float, short where it is a small integer.
func appendNumber(to []byte, f float64) []byte {
	if i := int64(f); float64(i) == f && -1<<52 < i && i < 1<<52 && !(i == 0 && math.Signbit(f)) {
		return binary.AppendUvarint(to, uint64(i<<1^i>>63)<<1) //nolint:gosec // zigzag
	}
	return binary.LittleEndian.AppendUint64(append(to, 1), math.Float64bits(f))
}

// reader reads what was written so. After something that cannot be, it has failed, and
// gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.failed, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.take(-1)
		return 0
	}
	r.take(n)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.take(-1)
		return 0
	}
	r.take(n)
	return v
}

// count is how many of something follow: not more than there are bytes.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.take(-1)
		return 0
	}
	return int(n) //nolint:gosec // not more than bytes
}

// index is a number below n.
func (r *reader) index(n int) int32 {
	i := r.uvarint()
	if n <= 0 || i >= uint64(n) {
		r.take(-1)
		return 0
	}
	return int32(i) //nolint:gosec // below the length of a list
}

// texts are many texts in one piece of memory.
func (r *reader) texts() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	rest := string(r.rest)
	texts := make([]string, 0, n)
	for range n {
		length := r.count()
		from := len(rest) - len(r.rest)
		if r.take(length); r.failed {
			return nil
		}
		texts = append(texts, rest[from:from+length])
	}
	return texts
}

func (r *reader) number() float64 {
	v := r.uvarint()
	switch {
	case v&1 == 0:
		z := v >> 1
		return float64(int64(z>>1) ^ -int64(z&1)) //nolint:gosec // zigzag
	case v != 1:
		r.take(-1)
		return 0
	}
	if b := r.take(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}
