package alert

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"
)

// mostMembers is how many members of a key are remembered. When there are more, the tenth that was
// not seen for longest is forgotten.
const mostMembers = 10_000

// unseen notices that a key that is known does something for the first time, or for the first time after
// long, as in: a user calls from an address that it has not called from.
//
// A key is known once it had more than AtLeast calls; it is counted exactly, each call once.
// Its members are remembered from its first call on, by the hour in which they were seen last. The calls of a
// second are judged together, by what was before it, so that their order does not matter. A call that comes late
// is judged by what is known when it comes: that the member was seen after it is as good as before. An empty
// member is none.
//
// So nothing depends on further calls of a key that is known by members that were seen in the same hour before,
// which is why workers do not tell them: see [recent].
type unseen struct {
	calls int64
	seen  map[string]int64 // by member: the hour, as its start, in which it was seen last
	last  int64            // of all
}

func newUnseen() judge { return &unseen{seen: map[string]int64{}} }

func (u *unseen) follow(t *telling, happened []moment, _ int64) {
	for len(happened) > 0 {
		n := 1
		for n < len(happened) && happened[n].at == happened[0].at {
			n++
		}
		u.second(t, happened[:n])
		happened = happened[n:]
	}
}

// second judges the calls of one second.
func (u *unseen) second(t *telling, calls []moment) {
	at, now := calls[0].at, floor(calls[0].at, hour)
	if u.spent(t.rule, at) {
		*u = unseen{seen: map[string]int64{}}
	}
	before := u.calls
	for i := range calls {
		member := calls[i].member
		u.calls += calls[i].n
		if how, since := u.unseen(t.rule, member, now); how != "" && before > t.rule.AtLeast {
			t.happened(opened{
				fired: at + t.rule.Step.Microseconds(), apart: strings.Clone(member),
				shown: map[string]string{t.rule.member(): strings.Clone(member), "unseen": how},
				value: since.Hours() / 24, threshold: t.rule.Forget.Hours() / 24,
			})
		}
	}
	for i := range calls {
		member := calls[i].member
		if last, known := u.seen[member]; member != "" && (!known || last < now) {
			u.seen[strings.Clone(member)] = now
		}
	}
	u.last = max(u.last, now)
	if len(u.seen) > mostMembers {
		t.crowds += u.thin()
	}
}

// unseen says in which way a member is unseen in an hour, "" if it is not, and for how long.
func (u *unseen) unseen(r *Rule, member string, now int64) (how string, since time.Duration) {
	last, known := u.seen[member]
	since = time.Duration(now-last) * time.Microsecond
	switch {
	case member == "":
	case !known:
		return "new", 0
	case r.Forget > 0 && since >= r.Forget:
		return "old", since
	}
	return "", 0
}

// member is the name under which alerts show what is unseen, or whose steps are followed.
func (r *Rule) member() string { return cmp.Or(r.Member, "member") }

// thin forgets members until there is room again, those first that were not seen for longest.
func (u *unseen) thin() (n int64) {
	for _, member := range u.byLast()[mostMembers*9/10:] {
		delete(u.seen, member)
		n++
	}
	return n
}

// byLast are the members, the one seen last first.
func (u *unseen) byLast() []string {
	return slices.SortedFunc(maps.Keys(u.seen), func(a, b string) int {
		return cmp.Or(cmp.Compare(u.seen[b], u.seen[a]), strings.Compare(a, b))
	})
}

func (u *unseen) wake(*Rule) int64 { return never }

func (u *unseen) spent(_ *Rule, through int64) bool {
	return gone(u.last, through)
}

func (u *unseen) append(_ *Rule, to []byte) []byte {
	to = binary.AppendVarint(binary.AppendVarint(to, u.calls), u.last)
	to = binary.AppendUvarint(to, uint64(len(u.seen)))
	before := u.last
	for _, member := range u.byLast() {
		to = binary.AppendUvarint(to, uint64((before-u.seen[member])/hour)) //nolint:gosec // the last comes first
		to = append(binary.AppendUvarint(to, uint64(len(member))), member...)
		before = u.seen[member]
	}
	return to
}

func (u *unseen) read(_ *Rule, from *reader) {
	u.calls, u.last = from.varint(), from.varint()
	at := u.last
	for range from.count() {
		at -= int64(from.uvarint()) * hour //nolint:gosec // as it was written
		u.seen[string(from.take(from.count()))] = at
		if from.failed {
			return
		}
	}
}
