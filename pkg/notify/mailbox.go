package notify

import (
	"cmp"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultMailsPerHour is how many mails an address gets in an hour, where nothing else is said.
	DefaultMailsPerHour = 60
	mostMailsPerHour    = 10_000
	anHour              = time.Hour
	// summaryLines is how many alerts a summary names; the others it counts.
	summaryLines = 200
)

// later is an error of a notice that is not sent to everybody yet: it is to be sent again then.
type later struct{ at time.Time }

func (l later) Error() string { return "kept for a summary at " + stamp(l.at) }

// mailboxes know how many mails each address had in its hour, which begins with a mail, and what is kept for the one that ends
// the hour: the summary. They are in memory. Where the process ends, what is kept is still waiting in Postgres, and the hours begin anew.
type mailboxes struct {
	most int // mails in an hour

	mu  sync.Mutex
	all map[string]*mailbox
}

type mailbox struct {
	began time.Time
	mails int             // in this hour
	kept  map[string]line // what the summary will have, by notice
	told  map[string]bool // notices that this address has had, and others not yet
	busy  bool            // its summary is under way
}

// line is a notice as a summary has it.
type line struct {
	severity int
	at       time.Time
	text     string
}

// turn is what an address gets now.
type turn int

const (
	nothing turn = iota // it has had it, or has to wait
	one                 // the notice
	last                // the notice, which is the last mail of this hour
	all                 // the summary, with the notice in it
)

// take says what the address gets of the notice now, and if it has to wait until when.
func (m *mailboxes) take(address, id string, n *Notice) (turn, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	box := m.all[address]
	if box == nil {
		box = &mailbox{kept: map[string]line{}, told: map[string]bool{}}
		m.all[address] = box
	}
	if n.Now.Sub(box.began) >= anHour {
		box.began, box.mails = n.Now, 0
	}
	_, kept := box.kept[id]
	switch {
	case box.told[id]:
		return nothing, time.Time{}
	case box.busy && kept:
		return nothing, n.Now.Add(time.Second)
	case box.mails >= m.most:
		if !kept {
			box.kept[id] = line{n.Alert.Severity, n.Alert.FiredAt, subject(n)}
		}
		return nothing, box.began.Add(anHour)
	}
	box.mails++
	switch {
	case kept:
		box.busy = true
		return all, time.Time{}
	case box.mails == m.most:
		return last, time.Time{}
	}
	return one, time.Time{}
}

// summary is what is kept for the address, the worst first.
func (m *mailboxes) summary(address string) (ids []string, lines []line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, l := range m.all[address].kept {
		ids, lines = append(ids, id), append(lines, l)
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.severity, b.severity), a.at.Compare(b.at), strings.Compare(a.text, b.text))
	})
	return ids, lines
}

// sent notes that an address has had these notices, or, where it failed, that it has not.
func (m *mailboxes) sent(address string, what turn, ids []string, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	box := m.all[address]
	if what == all {
		box.busy = false
	}
	if failed {
		box.mails--
		return
	}
	for _, id := range ids {
		box.told[id] = true
		delete(box.kept, id)
	}
}

// done forgets a notice that everybody has had.
func (m *mailboxes) done(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, box := range m.all {
		delete(box.told, id)
	}
}

// summaryBody tells what was kept.
func summaryBody(lines []line, most int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "No more than %d mails an hour go to this address. Beyond those there were:\r\n\r\n", most)
	for i, l := range lines {
		if i == summaryLines {
			fmt.Fprintf(&out, "and %d more\r\n", len(lines)-i)
			break
		}
		fmt.Fprintf(&out, "%s  %s\r\n", stamp(l.at), l.text)
	}
	out.WriteString("\r\nAll of them, and what fires now: weir alerts list\r\n")
	return out.String()
}

// summaryText is the whole mail.
func summaryText(lines []line, most int, now time.Time, from mail.Address, to string) []byte {
	subject := fmt.Sprintf("[summary] %d alerts beyond the %d mails of an hour", len(lines), most)
	if len(lines) == 1 {
		subject = fmt.Sprintf("[summary] 1 alert beyond the %d mails of an hour", most)
	}
	return mailOf(from, []string{to}, subject, now, messageID(fmt.Sprintf("summary-%d", now.UnixNano()), 0, from), nil, summaryBody(lines, most))
}
