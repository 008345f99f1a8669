package stream

import (
	"strconv"
	"strings"
)

const (
	// MaxNumber is the largest number an identity may carry.
	MaxNumber = 1 << 62
	// MaxRange is how many numbers one identity may span at most.
	MaxRange = 65536

	maxEpoch = 64
)

// Identity says which part of a publisher's output a message is. It travels as
// the header Nats-Msg-Id in one of two forms:
//
//	<source>/<epoch>/<n>      the message is number n of that epoch
//	<source>/<epoch>/<a>-<b>  the message carries exactly the events a..b of that epoch
//
// The epoch is chosen anew at every start of a publisher (or derived from the
// content, by replay); numbers start at 1. One epoch uses one form throughout.
// First and Last are equal for the first form; a range of one event is the same
// identity as that event's number.
type Identity struct {
	Source string
	Epoch  string
	First  uint64 // from 1
	Last   uint64 // First <= Last <= First+MaxRange-1, Last <= MaxNumber
}

// ParseIdentity reads a message identity. It accepts exactly one spelling of
// every number (no sign, no leading zero), so that two identities are equal if
// and only if they are spelled the same, save a range of one.
func ParseIdentity(msgID string) (Identity, bool) {
	source, rest, ok := strings.Cut(msgID, "/")
	if !ok || !ValidToken(source) {
		return Identity{}, false
	}
	epoch, numbers, ok := strings.Cut(rest, "/")
	if !ok || !ValidEpoch(epoch) {
		return Identity{}, false
	}
	first, last, ok := parseNumbers(numbers)
	if !ok {
		return Identity{}, false
	}
	return Identity{Source: source, Epoch: epoch, First: first, Last: last}, true
}

// parseNumbers reads the last part of an identity.
func parseNumbers(numbers string) (first, last uint64, ok bool) {
	from, to, isRange := strings.Cut(numbers, "-")
	if first, ok = parseNumber(from); !ok {
		return 0, 0, false
	}
	if !isRange {
		return first, first, true
	}
	if last, ok = parseNumber(to); !ok || last < first || last-first >= MaxRange {
		return 0, 0, false
	}
	return first, last, true
}

// IdentityOf is [Message.Identity] of the message with this subject and
// Nats-Msg-Id.
func IdentityOf(subject, msgID string) (Identity, bool) {
	id, ok := ParseIdentity(msgID)
	if !ok {
		return Identity{}, false
	}
	_, source, ok := ParseEventSubject(subject)
	if !ok || source != id.Source {
		return Identity{}, false
	}
	return id, true
}

// String is the identity as it travels in Nats-Msg-Id.
func (id Identity) String() string {
	b := make([]byte, 0, len(id.Source)+len(id.Epoch)+24)
	b = append(b, id.Source...)
	b = append(b, '/')
	b = append(b, id.Epoch...)
	b = append(b, '/')
	b = strconv.AppendUint(b, id.First, 10)
	if id.Last != id.First {
		b = append(b, '-')
		b = strconv.AppendUint(b, id.Last, 10)
	}
	return string(b)
}

// Count is how many numbers the identity spans, at least 1.
func (id Identity) Count() uint64 { return id.Last - id.First + 1 }

// ValidEpoch reports whether s can be an epoch: 1 to 64 characters of
// [A-Za-z0-9_.-].
func ValidEpoch(s string) bool {
	if s == "" || len(s) > maxEpoch {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '_' || c == '.' || c == '-':
		default:
			return false
		}
	}
	return true
}

// parseNumber reads a number of an identity, which has one spelling.
func parseNumber(s string) (uint64, bool) {
	if s == "" || s[0] < '1' {
		return 0, false
	}
	n, ok := parseDigits(s)
	return n, ok && n <= MaxNumber
}

// parseDigits reads 1 to 19 decimal digits.
func parseDigits(s string) (uint64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0') // 19 digits fit into 64 bits
	}
	return n, true
}
