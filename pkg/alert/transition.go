package alert

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// mostSteps is how many different steps of a key are counted. When there are more, all counts
// are halved, and what was seen once is forgotten.
const mostSteps = 10_000

// transition follows the steps of a key's members from state to state, as in: the users of an
// application through its resources, and notices those that are improbable. The chain of
// states is the key's: all of its members teach it, and nobody else.
//
// A step from A to B has the probability (steps from A to B) / (steps from A) of those before it; what
// was never seen has 0. It is told when that is Threshold or less and the key has had more
// than AtLeast events, this one included. Each step is learned after it was judged, improbable ones too.
// A member of which nothing was heard for as long as Forget begins anew; an empty one is none. So
// does WSO2's extension judge; but there, all traffic of a worker shares one chain and one count.
//
// Events that come late, after one behind them was judged, are neither judged nor learned.
type transition struct {
	events  int64
	last    position
	states  []string
	number  map[string]int32
	counts  map[move]*int64
	totals  []int64 // by state: steps from it
	members map[string]*standing
}

// move is a step from a state to another, one in each half of it.
type move uint64

func moved(from, to int32) move { return move(uint64(uint32(from))<<32 | uint64(uint32(to))) } //nolint:gosec // halves

func (m move) from() int32 { return int32(m >> 32) } //nolint:gosec // as it was put together
func (m move) to() int32   { return int32(m) }       //nolint:gosec // as it was put together

// standing is where a member is.
type standing struct {
	state int32
	at    int64
}

func newTransition() judge { return emptyTransition() }

func emptyTransition() *transition {
	return &transition{number: map[string]int32{}, counts: map[move]*int64{}, members: map[string]*standing{}}
}

func (c *transition) follow(t *telling, happened []moment, _ int64) {
	for i := range happened {
		m := &happened[i]
		if c.events > 0 && m.position.compare(c.last) < 0 {
			t.late++
			continue
		}
		if c.spent(t.rule, m.at) {
			*c = *emptyTransition()
		}
		c.last = m.position
		c.events++
		c.take(t, m)
	}
}

// take judges an event, and learns of it.
func (c *transition) take(t *telling, m *moment) {
	if c.events%1024 == 0 && len(c.members) > mostMembers {
		t.crowds += c.thin(t.rule)
	}
	if m.member == "" {
		return
	}
	to := c.state(m.state)
	was := c.members[m.member]
	if was == nil {
		was = &standing{}
		c.members[strings.Clone(m.member)] = was
	} else if !c.left(t.rule, was, m.at) {
		n := c.counts[moved(was.state, to)]
		if n == nil {
			n = new(int64)
			c.counts[moved(was.state, to)] = n
		}
		if c.events > t.rule.AtLeast {
			c.judge(t, m, was.state, to, *n)
		}
		*n++
		c.totals[was.state]++
	}
	*was = standing{to, m.at}
	if len(c.counts) > mostSteps {
		t.crowds += c.halve()
	}
}

// judge tells of a step that is improbable, of which there were so many before.
func (c *transition) judge(t *telling, m *moment, was, is int32, n int64) {
	p := 0.0
	if total := c.totals[was]; total > 0 {
		p = float64(n) / float64(total)
	}
	if p > t.threshold {
		return
	}
	from, to := c.states[was], c.states[is]
	t.happened(opened{
		fired: m.at, apart: m.member + "\x00" + from + "\x00" + to, value: p, threshold: t.threshold,
		shown: map[string]string{t.rule.member(): strings.Clone(m.member), "transition": "from " + clip(from) + " to " + clip(to)},
	})
}

func (c *transition) state(text string) int32 {
	n, ok := c.number[text]
	if !ok {
		n = int32(len(c.states)) //nolint:gosec // bounded by the steps and the members
		text = strings.Clone(text)
		c.number[text] = n
		c.states, c.totals = append(c.states, text), append(c.totals, 0)
	}
	return n
}

// left reports whether so little is heard of a member that where it was does not matter any more.
func (c *transition) left(r *Rule, was *standing, at int64) bool {
	return r.Forget > 0 && at-was.at >= r.Forget.Microseconds()
}

// halve makes room for steps, and keeps the probabilities of those that are frequent.
func (c *transition) halve() (dropped int64) {
	before := len(c.counts)
	for len(c.counts) > mostSteps/2 {
		for s, n := range c.counts {
			if *n /= 2; *n == 0 {
				delete(c.counts, s)
			}
		}
	}
	clear(c.totals)
	for s, n := range c.counts {
		c.totals[s.from()] += *n
	}
	c.compact()
	return int64(before - len(c.counts))
}

// compact forgets the states that nothing refers to.
func (c *transition) compact() {
	old, totals := c.states, c.totals
	counts := c.counts
	c.states, c.totals, c.number, c.counts = nil, nil, map[string]int32{}, map[move]*int64{}
	for s, n := range counts {
		c.counts[moved(c.state(old[s.from()]), c.state(old[s.to()]))] = n
	}
	for _, was := range c.members {
		was.state = c.state(old[was.state])
	}
	for n, text := range old {
		if now, ok := c.number[text]; ok {
			c.totals[now] = totals[n]
		}
	}
}

// prune forgets members that begin anew anyway.
func (c *transition) prune(r *Rule) {
	maps.DeleteFunc(c.members, func(_ string, was *standing) bool { return c.left(r, was, c.last.at) })
}

// thin makes room for members: those go first of which nothing was heard for longest.
func (c *transition) thin(r *Rule) (dropped int64) {
	c.prune(r)
	for _, member := range c.byLast()[min(mostMembers, len(c.members)):] {
		delete(c.members, member)
		dropped++
	}
	c.compact()
	return dropped
}

// byLast are the members, the one heard of last first.
func (c *transition) byLast() []string {
	return slices.SortedFunc(maps.Keys(c.members), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.members[b].at, c.members[a].at), strings.Compare(a, b))
	})
}

func (c *transition) wake(*Rule) int64 { return never }

func (c *transition) spent(_ *Rule, through int64) bool {
	return gone(c.last.at, through)
}

func (c *transition) append(r *Rule, to []byte) []byte {
	c.prune(r)
	to = c.last.append(binary.AppendVarint(to, c.events))
	to = appendTexts(to, c.states)
	steps := slices.Sorted(maps.Keys(c.counts))
	to = binary.AppendUvarint(to, uint64(len(steps)))
	from := int32(0)
	for _, s := range steps {
		to = binary.AppendUvarint(to, uint64(s.from()-from)) //nolint:gosec // in order
		to = binary.AppendUvarint(to, uint64(s.to()))        //nolint:gosec // an index
		to = binary.AppendVarint(to, *c.counts[s])
		from = s.from()
	}
	to = binary.AppendUvarint(to, uint64(len(c.members)))
	at := c.last.at
	for _, member := range c.byLast() {
		was := c.members[member]
		to = append(binary.AppendUvarint(to, uint64(len(member))), member...)
		to = binary.AppendVarint(binary.AppendUvarint(to, uint64(was.state)), at-was.at) //nolint:gosec // an index
		at = was.at
	}
	return to
}

func (c *transition) read(_ *Rule, from *reader) {
	c.events, c.last = from.varint(), from.position()
	for _, text := range from.texts() {
		c.state(text)
	}
	first := uint64(0)
	for range from.count() {
		first += from.uvarint()
		to := from.index(len(c.states))
		if from.failed || first >= uint64(len(c.states)) {
			from.take(-1)
			return
		}
		n := from.varint()
		c.counts[moved(int32(first), to)] = &n //nolint:gosec // below the number of states
		c.totals[first] += n
	}
	at := c.last.at
	for range from.count() {
		member := string(from.take(from.count()))
		was := &standing{state: from.index(len(c.states))}
		at -= from.varint()
		if from.failed {
			return
		}
		was.at = at
		c.members[member] = was
	}
}
