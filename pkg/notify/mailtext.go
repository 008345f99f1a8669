package notify

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/alert"
)

// mostSubject is in bytes, before it is encoded: with that it stays well below
// the 998 that a line may have.
const mostSubject = 200

// mailText is the whole mail. Alerts hold names that strangers chose: whatever
// goes into a header is one line of printable text, so that nothing can add
// headers, recipients or parts.
func mailText(n *Notice, from mail.Address, to []string, note string) []byte {
	a := &n.Alert
	var more [][2]string
	if a.FiringID != "" {
		first := messageID(a.FiringID, 0, from)
		more = append(more, [2]string{"In-Reply-To", first}, [2]string{"References", first})
	} else if n.Repeat > 0 {
		more = append(more, [2]string{"References", messageID(a.ID, 0, from)})
	}
	more = append(more, [2]string{AlertHeader, wordOf(a.ID)})
	return mailOf(from, to, subject(n), n.Now, messageID(a.ID, n.Repeat, from), more, mailBody(n)+note)
}

// mailOf puts a mail together.
func mailOf(from mail.Address, to []string, subject string, now time.Time, id string, more [][2]string, text string) []byte {
	var out bytes.Buffer
	header := func(name, value string) {
		out.WriteString(name + ": " + oneLine(value, 900) + "\r\n")
	}
	header("From", from.String())
	if len(to) == 1 {
		header("To", (&mail.Address{Address: to[0]}).String())
	} else {
		header("To", "undisclosed-recipients:;")
	}
	header("Subject", mime.QEncoding.Encode("utf-8", subject))
	header("Date", now.UTC().Format(time.RFC1123Z))
	// The same for the same telling of the same alert: mailboxes may drop what comes twice.
	header("Message-ID", id)
	for _, h := range more {
		header(h[0], h[1])
	}
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	out.WriteString("\r\n")
	body := quotedprintable.NewWriter(&out)
	_, _ = body.Write([]byte(text)) // into memory
	_ = body.Close()
	return out.Bytes()
}

// subject says what happens.
func subject(n *Notice) string {
	a := &n.Alert
	what := "[" + severityWord(a.Severity) + "] "
	switch _, over := n.over(); {
	case n.Test:
		what = "[test] "
	case over && a.State == alert.Resolved:
		what = "[resolved] "
	case over:
		what += "[resolved since] "
	case n.Repeat > 0:
		what += "[still] "
	}
	// A message that looks encoded would be decoded, into anything.
	return oneLine(strings.ReplaceAll(what+a.Message, "=?", "= ?"), mostSubject)
}

func mailBody(n *Notice) string {
	a := &n.Alert
	var out strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%-14s %s\r\n", name+":", oneLine(value, 2000))
		}
	}
	out.WriteString(oneLine(a.Message, 4000) + "\r\n\r\n")
	line("Rule", strings.TrimSuffix(a.Rule+", "+a.Case, ", "))
	line("State", string(a.State))
	line("Severity", strconv.Itoa(a.Severity)+" ("+severityWord(a.Severity)+")")
	line("Fired", stamp(a.FiredAt))
	line("Resolved", stamp(a.ResolvedAt))
	line("Reason", a.Reason)
	line("Value", strconv.FormatFloat(a.Value, 'f', -1, 64))
	line("Threshold", strconv.FormatFloat(a.Threshold, 'f', -1, 64))
	if a.Scope == alert.ScopeLocal {
		line("Scope", "local: decided on the traffic of shard "+a.ShardID+" alone")
	}
	for _, named := range []struct {
		title string
		texts map[string]string
	}{{"Key", a.Key}, {"Details", a.Details}, {"Labels", a.Labels}} {
		if len(named.texts) == 0 {
			continue
		}
		out.WriteString("\r\n" + named.title + "\r\n")
		for _, name := range slices.Sorted(maps.Keys(named.texts)) {
			fmt.Fprintf(&out, "  %s: %s\r\n", oneLine(name, 200), oneLine(named.texts[name], 2000))
		}
	}
	id := a.ID
	if a.FiringID != "" {
		id = a.FiringID
	}
	fmt.Fprintf(&out, "\r\nAlert %s", wordOf(id))
	if !n.Test {
		fmt.Fprintf(&out, "; more by: weir alerts show %s", wordOf(id))
	}
	out.WriteString("\r\n")
	return out.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}

// messageID names a mail: <id.repeat@the sender's domain>.
func messageID(id string, repeat int, from mail.Address) string {
	_, domain := splitUser(from.Address)
	return "<" + wordOf(id) + "." + strconv.Itoa(repeat) + "@" + domain + ">"
}

// wordOf is an id without anything that has a meaning in a header; ids are
// letters, digits and hyphens anyway.
func wordOf(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, id[:min(len(id), 128)])
}
