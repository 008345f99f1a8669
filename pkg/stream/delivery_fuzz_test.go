package stream

import (
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

// naiveDelivery reads a reply subject token by token, as its form is written down
// at parseDelivery. It is long if a number has more digits than any number of a
// server: whether that is read or refused is the parser's choice.
func naiveDelivery(reply string) (d delivery, ok, long bool) {
	tokens := strings.Split(reply, ".")
	if len(tokens) < 2 || tokens[0] != "$JS" || tokens[1] != "ACK" {
		return delivery{}, false, long
	}
	switch tokens = tokens[2:]; {
	case len(tokens) == 7:
		tokens = tokens[2:] // stream, consumer
	case len(tokens) >= 9:
		tokens = tokens[4:9] // domain, account, stream, consumer; what follows is not ours
	default:
		return delivery{}, false, long
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	var numbers []uint64
	for _, token := range tokens {
		n, ok := new(big.Int).SetString(token, 10)
		if !digits.MatchString(token) || !ok || !n.IsUint64() {
			return delivery{}, false, long
		}
		long = long || len(token) > 19
		numbers = append(numbers, n.Uint64())
	}
	stored := time.Unix(0, int64(numbers[3])).UTC() //nolint:gosec // as the parser does
	return delivery{deliveries: numbers[0], sequence: numbers[1], number: numbers[2], stored: stored, pending: numbers[4]}, true, long
}

// Whoever may publish to a worker's inbox writes any reply subject.
func FuzzParseDelivery(f *testing.F) {
	for _, seed := range []string{
		"", "$JS.ACK", "$JS.ACK.", "_INBOX.x.1", "$JS.ACK.EVENTS.fold.1.2.3.1700000000000000000.4", "$JS.ACK.EVENTS.fold.1.2.3.4.5.6",
		"$JS.ACK._.AB12.EVENTS.fold.1.2.3.1700000000000000000.4", "$JS.ACK.d.AB12.EVENTS.fold.1.2.3.1700000000000000000.4.token.more",
		"$JS.ACK.EVENTS.fold.18446744073709551615.18446744073709551616.0.9223372036854775808.0", "$JS.ACK.....1.2.3.4.5", "$JS.ACK.a.b.1.2.3.4.",
		"$JS.ACK.EVENTS.fold.+1.-2.0x3.1_000.٤", "$JS.ACK.EVENTS.fold.0001.2.3.00000000000000000000000000004.5", "$JS.ACK.d.a.s.c.1.2.3.4.5.",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		got, ok := parseDelivery(reply)
		want, wantOK, long := naiveDelivery(reply)
		if !ok && long {
			want, wantOK = delivery{}, false
		}
		if ok != wantOK || got != want {
			t.Fatalf("%q: got %+v, %v, want %+v, %v", reply, got, ok, want, wantOK)
		}
	})
}
