package event

import (
	"fmt"
	"testing"
)

// The values are in databases. If this test fails the code is wrong, not the
// test.
func TestChecksum_IsWhatItAlwaysWas(t *testing.T) {
	t.Parallel()
	const epoch = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		base, number uint64
		offset       int
		want         uint32
	}{
		{ChecksumBase("gw-1", epoch), 1, 0, 0xe6741e4b},
		{ChecksumBase("gw-1", epoch), 1, 1, 0x5b4eeb70},
		{ChecksumBase("gw-1", epoch), 2, 0, 0x00872033},
		{ChecksumBase("gw-2", epoch), 1, 0, 0x63d36987},
		{ChecksumBase("gw-1", "e"), 1 << 62, 9999, 0x1eda50e4},
		{ForeignChecksumBase("A7kQ", 1_795_341_599_123_456), 42, 0, 0xc49ae83c},
		{ForeignChecksumBase("A7kQ", 1_795_341_599_123_457), 42, 0, 0x9c503342},
		{ForeignChecksumBase("A7kR", 1_795_341_599_123_456), 42, 3, 0xbfe0f16b},
	} {
		if got := Checksum(c.base, c.number, c.offset); got != c.want {
			t.Errorf("Checksum(%#x, %d, %d) = %#x, want %#x", c.base, c.number, c.offset, got, c.want)
		}
	}
}

func TestDecode_GivesEveryCutOfNumberedEventsTheSameChecksums(t *testing.T) {
	t.Parallel()
	s := &Schema{Name: "calls", EventTime: -1}
	s.Seal()
	base := ChecksumBase("file", "e1")
	decode := func(events int, origin Origin) []uint32 {
		t.Helper()
		var d Decoder
		body := ""
		for range events {
			body += "{}\n"
		}
		c := NewColumns(s, NewDictionary())
		origin.Base, origin.Stored = base, 1
		if _, rejects, err := d.Decode(Body{Data: []byte(body)}, origin, c); err != nil || len(rejects) > 0 {
			t.Fatal(err, rejects)
		}
		return c.Checksums
	}
	whole := decode(5, Origin{Number: 3, Numbered: true})
	parts := append(decode(2, Origin{Number: 3, Numbered: true}), decode(1, Origin{Number: 5})...)
	parts = append(parts, decode(2, Origin{Number: 6, Numbered: true})...)
	if got, want := fmt.Sprint(parts), fmt.Sprint(whole); got != want {
		t.Errorf("cut otherwise: got %s, want %s", got, want)
	}
	if got := decode(2, Origin{Number: 3}); got[0] != whole[0] || got[1] == whole[1] {
		t.Errorf("events of one number: got %d, the first like %d, the second not", got, whole[:2])
	}
}

// Sums of few events, as a bucket has them, must not repeat where one event
// stands for another: that is all the checksum is for.
func TestChecksum_DiffersBetweenNeighbours(t *testing.T) {
	t.Parallel()
	const n = 1 << 15
	base, seen := ChecksumBase("gw-1", "e"), map[uint32]int{}
	for number := range uint64(n / 8) {
		for offset := range 8 {
			seen[Checksum(base, number+1, offset)]++
		}
	}
	// Of n values at random, n²/2³³ = 1/8 pairs are expected to be equal.
	if equal := n - len(seen); equal > 3 {
		t.Errorf("%d of %d checksums are not the first of their value", equal, n)
	}
}
