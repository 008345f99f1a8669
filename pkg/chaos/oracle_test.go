package chaos

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pkg/definition"
	"weir/pkg/event"
	"weir/streams"
)

const origin = 1_790_000_000_000

// A naive oracle is worth what it is checked by: an event of each type, added up by hand.
func TestSheets_CountWhatThePackDefines(t *testing.T) {
	t.Parallel()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sheets() {
		names = append(names, s.name)
		def := catalog.Aggregation(s.name)
		if def == nil {
			t.Errorf("the pack has no %s", s.name)
			continue
		}
		var keys []string
		for _, k := range def.Keys {
			keys = append(keys, strings.ToLower(k.Name))
		}
		if !slices.Equal(keys, s.keys) {
			t.Errorf("%s: keys %v, the pack has %v", s.name, s.keys, keys)
		}
	}
	for _, def := range catalog.Aggregations {
		if !slices.Contains(names, def.Name) {
			t.Errorf("aggregation %s of the pack has no sheet: it would not be checked", def.Name)
		}
	}
}

func TestSheet_AddsUpPerBucketOfEveryLevel(t *testing.T) {
	t.Parallel()
	at := func(year int, month time.Month, day, hour, minute, second int) int64 {
		return time.Date(year, month, day, hour, minute, second, 0, time.UTC).UnixMilli()
	}
	events := []made{
		{kind: typeRequest, millis: at(2026, 2, 28, 23, 59, 59), above: true},
		{kind: typeRequest, millis: at(2026, 2, 28, 23, 59, 59) + 999},
		{kind: typeRequest, millis: at(2026, 3, 1, 0, 0, 0)},
		{kind: typeFault, millis: at(2026, 3, 1, 0, 0, 0)},
	}
	finest := sheets()[1].fill(events) // ApiVersionPerAppAgg
	for level, want := range map[string]int{"seconds": 2, "minutes": 2, "hours": 2, "days": 2, "months": 2, "years": 1} {
		a := finest.at(level)
		if len(a) != want || a.events() != 3 {
			t.Errorf("%s: %d rows of %d events, want %d of 3", level, len(a), a.events(), want)
		}
	}
	for _, c := range finest.at("years") {
		if c.measures[0] != 3 || c.measures[1] != 1 {
			t.Errorf("years: %v, want 3 requests, 1 above its quota", c.measures)
		}
	}
}

func TestSheet_FindsOneEventLostAndAnotherDoubled(t *testing.T) {
	t.Parallel()
	s := sheets()[1]
	events := []made{{kind: typeRequest, millis: origin, app: 1}, {kind: typeRequest, millis: origin, app: 2}}
	line, problems := s.compare("seconds", s.fill(events), s.fill([]made{events[0], events[0]}))
	if line.Lost != 1 || line.Doubled != 1 || line.Published != 2 || line.Folded != 2 || len(problems) != 2 {
		t.Errorf("%+v, %q; want one lost and one doubled", line, problems)
	}
	moved := events[0]
	moved.above = true
	line, problems = s.compare("seconds", s.fill(events[:1]), s.fill([]made{moved}))
	if line.Lost != 0 || line.Doubled != 0 || len(problems) != 1 {
		t.Errorf("%+v, %q; want a problem with a sum alone", line, problems)
	}
}

// What the generator calls sound must be so for Weir, and the rest not.
func TestGenerator_MakesWhatItSays(t *testing.T) {
	t.Parallel()
	catalog, err := definition.LoadWith(streams.Files, definition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for number := range sources {
		g := newGenerator(7, number+1, origin)
		broken, flawed, copies, slow := 0, 0, 0, map[int64]bool{}
		for range 800 {
			m := g.message(origin, 20)
			copies += int(count(m.copyOf))
			for _, e := range m.events {
				flawed += int(count(e.flaw != sound))
				if e.slow && !m.copyOf {
					if slow[e.millis] {
						t.Errorf("two slow events of the time %d", e.millis)
					}
					slow[e.millis] = true
				}
			}
			if m.broken {
				broken++
				continue
			}
			checkMessage(t, catalog, m)
		}
		if broken == 0 || flawed == 0 || len(slow) == 0 || number+1 == sources && copies == 0 {
			t.Errorf("source %d: %d broken messages, %d flawed events, %d slow ones, %d cut anew", number+1, broken, flawed, len(slow), copies)
		}
	}
}

func checkMessage(t *testing.T, catalog *definition.Catalog, m *message) {
	t.Helper()
	columns := event.NewColumns(catalog.Stream(m.events[0].kind), event.NewDictionary())
	var decoder event.Decoder
	body := event.Body{Data: m.out.Data, ContentType: m.out.ContentType, Encoding: m.out.ContentEncoding}
	n, rejects, err := decoder.Decode(body, event.Origin{Stored: origin * 1000}, columns)
	if err != nil || n != len(m.events) {
		t.Fatalf("%s: %d events, %v; want %d", m.out.MsgID, n, err, len(m.events))
	}
	var got, want []int
	for _, r := range rejects {
		got = append(got, r.Offset)
	}
	for i, e := range m.events {
		if e.flaw != sound {
			want = append(want, i)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: rejected %v, want %v", m.out.MsgID, got, want)
	}
}

func TestGenerator_IsMadeOfTheSeedAlone(t *testing.T) {
	t.Parallel()
	one, two := newGenerator(3, 1, origin), newGenerator(3, 1, origin)
	for range 200 {
		if a, b := one.message(origin, 50), two.message(origin, 50); !reflect.DeepEqual(a, b) {
			t.Fatalf("messages differ: %v, %v", a.out, b.out)
		}
	}
}

func TestTruth_CountsWhatIsStoredTwiceOnce(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	events := []made{{kind: typeRequest, millis: origin}, {kind: typeRequest, millis: origin, flaw: noTime}, {kind: typeRequest, millis: origin}}
	whole := &message{source: "gw-3", epoch: "e", first: 11, ranged: true, own: true, events: events}
	part := &message{source: "gw-3", epoch: "e", first: 12, ranged: true, own: true, events: events[1:]}
	foreign := &message{source: "gw-1", events: events}
	for _, m := range []*message{whole, part, foreign} {
		m.seal(r)
	}
	truth := &truth{dead: map[string]int{}, own: map[ledgerKey]bool{}, foreign: map[[2]int64]bool{}, slow: map[int64]bool{}, global: map[string]int{}}
	seen := map[identity]bool{}
	for i, m := range []*message{part, whole, whole, foreign, foreign} {
		truth.add(m, int64(i+1), time.UnixMilli(origin), seen)
	}
	// 11, 12 and 13, of which 12 is bad, and both foreign messages, which nothing tells apart from two.
	if len(truth.folded) != 2+4 || len(truth.dead) != 1+2 || truth.again != 2 || len(truth.own) != 3 || len(truth.foreign) != 2 {
		t.Errorf("%d folded, %d dead, %d again, %d numbers, %d foreign; want 6, 3, 2, 3, 2",
			len(truth.folded), len(truth.dead), truth.again, len(truth.own), len(truth.foreign))
	}
	if id := identityOf("gw-3/e/11-13", 9, 1).text(); truth.dead[id] != 1 {
		t.Errorf("the dead letter %s is not that of the event: %v", id, truth.dead)
	}
}
