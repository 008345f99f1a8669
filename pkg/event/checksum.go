package event

// The checksum of an event stands for who it is, not for what it says: who
// published it, in which epoch, under which number, at which place in its
// message. Everything that holds sums of events holds the sum of their
// checksums beside their number, modulo 2^32. The order of events plays no part
// in it, and a loss that a duplicate makes up for in the number shows in the
// sum, save once in 2^32 times.
//
// How it is computed is stable for ever: rows in databases hold such sums, and
// versions of the program that run side by side add to the same ones.

// ChecksumBase returns what the checksums of one publisher epoch have in common:
// FNV-1a of "source/epoch", in 64 bits.
func ChecksumBase(source, epoch string) uint64 {
	return fnv(fnv(fnv(fnvStart, source), "/"), epoch)
}

// ForeignChecksumBase is ChecksumBase for one message without an identity of its
// own. It is known by the incarnation of the stream, the time at which that
// stored it, in microseconds since 1970 UTC, and its sequence, which is then the
// number.
func ForeignChecksumBase(incarnation string, stored int64) uint64 {
	return mix(fnv(fnvStart, incarnation) ^ uint64(stored)) //nolint:gosec // all bits count
}

// Checksum returns the checksum of the event at offset, from 0, of the message
// that has the number. Where every event has a number of its own its offset is
// 0, so that it does not depend on how messages are cut.
func Checksum(base, number uint64, offset int) uint32 {
	x := base + number*0x9e3779b97f4a7c15 + uint64(offset)*0xd1b54a32d192ed03 //nolint:gosec // never negative
	return uint32(mix(x) >> 32)                                               //nolint:gosec // the upper half fits
}

const fnvStart = 0xcbf29ce484222325

func fnv(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return h
}

// mix lets every bit count in every other, as splitmix64 does.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
