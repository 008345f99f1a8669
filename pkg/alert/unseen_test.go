package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func unseenRule() *Rule {
	return oneCase(Rule{
		Type: Unseen, AtLeast: 5, Step: time.Second, Forget: 30 * 24 * time.Hour, Suppress: 10 * time.Minute, Member: "userIp",
	})
}

// unseenOracle looks at all calls for each.
func unseenOracle(r *Rule, deeds []deed, end time.Duration) (lines []string) {
	second := func(d deed) time.Duration { return d.at.Truncate(time.Second) }
	told := map[string]bool{}
	for _, d := range inOrder(deeds) {
		before, last := 0, time.Duration(-1)
		for _, of := range deeds {
			if of.key != d.key || second(of) >= second(d) {
				continue
			}
			before++
			if of.member == d.member {
				last = max(last, of.at.Truncate(time.Hour))
			}
		}
		how := "new"
		if last >= 0 {
			how = "old"
		}
		at, days := second(d)+time.Second, 0.0
		if last >= 0 {
			days = (d.at.Truncate(time.Hour) - last).Hours() / 24
		}
		if before <= int(r.AtLeast) || last >= 0 && d.at.Truncate(time.Hour)-last < r.Forget || told[fmt.Sprint(at, d.key, d.member)] || at > end {
			continue
		}
		told[fmt.Sprint(at, d.key, d.member)] = true
		line := fmt.Sprintf("%s unseen=%s userIp=%s %s > %s", d.key, how, d.member, figure(days), figure(r.Forget.Hours()/24))
		lines = append(lines, fmt.Sprintf("%s firing %s", at, line))
		if over := at + 10*time.Minute; over <= end {
			lines = append(lines, fmt.Sprintf("%s resolved %s fired %s", over, line, at))
		}
	}
	return lines
}

func TestUnseen_TellsWhatTheOracleSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := unseenRule()
		r.AtLeast = rapid.Int64Range(0, 8).Draw(t, "at least")
		r.Forget = time.Duration(rapid.IntRange(2, 4).Draw(t, "forget")) * time.Hour
		deeds := drawDeeds(t, 60, 12*time.Hour)
		checkOracle(t, r, deeds, 13*time.Hour, unseenOracle(r, deeds, 13*time.Hour))
	})
}

// Workers leave out what they have told lately: nothing depends on it, whoever folds what, in
// whatever order, and whatever is rolled back.
func TestUnseen_DoesNotDependOnWhatWorkersLeaveOut(t *testing.T) {
	t.Parallel()
	left := 0
	rapid.Check(t, func(t *rapid.T) {
		r := unseenRule()
		r.AtLeast = rapid.Int64Range(0, 8).Draw(t, "at least")
		r.Forget = time.Duration(rapid.IntRange(2, 4).Draw(t, "forget")) * time.Hour
		deeds := drawDeeds(t, 60, 6*time.Hour)
		workers := make([]*recent, rapid.IntRange(1, 3).Draw(t, "workers"))
		for i := range workers {
			workers[i] = newRecent()
		}
		tell := func(deeds []deed) []deed {
			worker := rapid.SampledFrom(workers).Draw(t, "worker")
			for { // until it is committed
				worker.begin()
				told := slices.DeleteFunc(slices.Clone(deeds), func(d deed) bool {
					worker.open(hash{}.with(hashed(d.key)))
					defer worker.close()
					return !worker.tells(r, hashed(d.member), floor(d.micros(), r.Step.Microseconds()), 1)
				})
				if rapid.Bool().Draw(t, "committed") {
					worker.commit()
					left += len(deeds) - len(told)
					return told
				}
			}
		}
		k := drawTold(t, r, deeds, 7*time.Hour, tell)
		want := unseenOracle(r, deeds, 7*time.Hour)
		slices.Sort(want)
		if got := k.told(); !slices.Equal(got, want) {
			t.Fatalf("got\n%q\nwant\n%q", got, want)
		}
	})
	if left == 0 {
		t.Fatal("nothing was left out")
	}
}

// hashed is the hash of a text of one byte.
func hashed(text string) hash { return hash{uint64(text[0]), 1} }

// drawDeeds draws deeds of a few keys, members and states; many are of the same time.
func drawDeeds(t *rapid.T, most int, within time.Duration) []deed {
	n := rapid.IntRange(0, most).Draw(t, "deeds")
	sequences := make([]uint64, n)
	for i := range sequences {
		sequences[i] = uint64(i + 1)
	}
	sequences = rapid.Permutation(sequences).Draw(t, "sequences")
	deeds := make([]deed, n)
	near := rapid.Bool().Draw(t, "near")
	for i := range deeds {
		at := time.Duration(rapid.Int64Range(0, int64(within/time.Millisecond)).Draw(t, "at")) * time.Millisecond
		if near {
			at = at % (10 * time.Second) / time.Second * time.Second
		}
		deeds[i] = deed{
			key:    rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"),
			member: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "member"),
			state:  rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "state"),
			hit:    rapid.IntRange(0, 9).Draw(t, "hit") > 1,
			at:     at, sequence: sequences[i],
		}
	}
	return deeds
}

// calls are so many calls of a key from an address, one a second.
func calls(key, member string, from time.Duration, n int) (deeds []deed) {
	for i := range n {
		deeds = append(deeds, deed{key: key, member: member, at: from + time.Duration(i)*time.Second})
	}
	return deeds
}

// Defect 5 of the original: the calls from which a user is known were added to the database each minute, all
// of them again.
func TestUnseen_CountsEachCallOnce(t *testing.T) {
	t.Parallel()
	r := unseenRule()
	r.AtLeast = 100
	k := newKeeper(r)
	for minute := range 101 { // one call a minute: the original takes 14 minutes to count 100
		at := time.Duration(minute) * time.Minute
		k.add(deed{key: "user", member: "home", at: at})
		if minute == 99 {
			k.add(deed{key: "user", member: "early", at: at + 10*time.Second}) // call 101: the first that more than 100 could be before is the next
		}
		k.decide(at + 50*time.Second)
		k.takeOver(t)
	}
	k.add(deed{key: "user", member: "stranger", at: 101 * time.Minute})
	k.decide(102 * time.Minute)
	if got := k.fired("userIp", "unseen"); !slices.Equal(got, []string{"1h41m1s stranger new"}) {
		t.Fatalf("fired %q", got)
	}
}

// Defect 5: of several addresses in a minute one was stored, and the others were new again.
func TestUnseen_RemembersEveryAddressOfAMinute(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	k.add(calls("user", "home", 0, 10)...)
	for minute := 1; minute < 5; minute++ {
		for address := range 20 {
			k.add(deed{key: "user", member: fmt.Sprint("hotel ", address), at: time.Duration(minute)*time.Minute + time.Duration(address)*time.Second/4})
		}
		k.decide(time.Duration(minute)*time.Minute + 30*time.Second)
	}
	if got := k.fired(); len(got) != 20 {
		t.Fatalf("%d alerts for 20 addresses that came four times each", len(got))
	}
}

// Defect 5: users behind one address evicted each other, so that it was new for each of them again.
func TestUnseen_UsersBehindOneAddressDoNotEvictEachOther(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	k.add(slices.Concat(calls("ann", "office", 0, 10), calls("bob", "office", 0, 10))...)
	for hour := 1; hour < 10; hour++ {
		k.add(deed{key: "ann", member: "office", at: time.Duration(hour) * time.Hour})
		k.add(deed{key: "bob", member: "office", at: time.Duration(hour)*time.Hour + time.Minute})
		k.decide(time.Duration(hour)*time.Hour + 2*time.Minute)
	}
	if got := k.fired(); len(got) != 0 {
		t.Fatalf("fired %q", got)
	}
}

func TestUnseen_AddressesAreRememberedWhileAKeyIsNotYetKnown(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	k.add(calls("user", "once", 0, 1)...)
	k.add(calls("user", "home", time.Minute, 10)...)
	k.add(calls("user", "once", time.Hour, 1)...)
	k.add(calls("user", "once", 31*24*time.Hour, 1)...)
	k.decide(32 * 24 * time.Hour)
	if got := k.fired("userIp", "unseen"); !slices.Equal(got, []string{"744h0m1s once old"}) {
		t.Fatalf("fired %q", got)
	}
}

func TestUnseen_AnEventWithoutAddressIsACallButNothingNew(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	k.add(calls("user", "home", 0, 5)...)
	k.add(calls("user", "", time.Minute, 3)...)
	k.add(calls("user", "away", time.Hour, 1)...)
	k.decide(2 * time.Hour)
	if got := k.fired("userIp"); !slices.Equal(got, []string{"1h0m1s away"}) {
		t.Fatalf("fired %q", got)
	}
}

func TestUnseen_LateCallsAreJudgedByWhatIsKnown(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	k.add(calls("user", "home", 0, 10)...)
	k.add(calls("user", "away", time.Hour, 1)...)
	k.decide(2 * time.Hour)
	k.add(calls("user", "away", 30*time.Minute, 1)...)   // seen later
	k.add(calls("user", "abroad", 40*time.Minute, 1)...) // not seen
	k.decide(3 * time.Hour)
	if got := k.fired("userIp"); !slices.Equal(got, []string{"40m1s abroad", "1h0m1s away"}) {
		t.Fatalf("fired %q", got)
	}
}

func TestUnseen_MembersOfAKeyHaveABound(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	for batch := range 4 {
		var deeds []deed
		for i := range 5000 {
			n := batch*5000 + i
			deeds = append(deeds, deed{key: "user", member: fmt.Sprint(n), at: time.Duration(n) * time.Second})
		}
		k.add(deeds...)
		k.decide(time.Duration((batch+1)*5000) * time.Second)
		k.takeOver(t)
	}
	h := k.global.deciders[0].decider.(*sequential).keys["user"]
	u := h.judge.(*unseen)
	if len(u.seen) > mostMembers || u.seen["19999"] == 0 || u.seen["0"] != 0 {
		t.Fatalf("%d members are remembered, the newest at %d, the oldest at %d", len(u.seen), u.seen["19999"], u.seen["0"])
	}
	if len(h.open) > 601 {
		t.Fatalf("%d alerts are open", len(h.open))
	}
}

func TestUnseen_MembersThatAreForgottenForWantOfRoomAreCounted(t *testing.T) {
	t.Parallel()
	k := newKeeper(unseenRule())
	for n := range mostMembers + 1 {
		k.add(deed{key: "user", member: fmt.Sprint(n), at: time.Duration(n) * time.Second})
	}
	k.decide(24 * time.Hour)
	if got := k.global.Crowded(); got != mostMembers/10+1 {
		t.Fatalf("%d members are forgotten", got)
	}
}
