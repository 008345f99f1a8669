package stream

import "strings"

// names knows the senders of late: most messages are of one of few, and what is
// known of them need not be looked at again. Its zero value is ready. It belongs
// to one goroutine.
type names struct {
	bySubject map[string]*sender
}

// sender is the part of an identity that the messages of one publisher share.
type sender struct {
	source, epoch string
	prefix        string // <source>/<epoch>/
}

// maxNames bounds what is kept, so that nobody can fill a worker's memory with subjects.
const maxNames = 1024

// identify finds out who sent a message, as IdentityOf does.
func (n *names) identify(m *Message) {
	id := m.headers.msgID
	if from := n.bySubject[m.Subject]; from != nil && strings.HasPrefix(id, from.prefix) {
		if first, last, ok := parseNumbers(id[len(from.prefix):]); ok {
			m.sender, m.first, m.last = from, first, last
		}
		return
	}
	identity, ok := IdentityOf(m.Subject, id)
	if !ok {
		return
	}
	// Copies: what is kept must not hold on to the headers of a message.
	prefix := strings.Clone(id[:len(identity.Source)+len(identity.Epoch)+2])
	from := &sender{source: prefix[:len(identity.Source)], epoch: prefix[len(identity.Source)+1 : len(prefix)-1], prefix: prefix}
	if n.bySubject == nil || len(n.bySubject) >= maxNames {
		n.bySubject = make(map[string]*sender)
	}
	n.bySubject[strings.Clone(m.Subject)] = from
	m.sender, m.first, m.last = from, identity.First, identity.Last
}
