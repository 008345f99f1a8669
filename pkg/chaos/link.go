package chaos

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A link's trouble.
type trouble int

const (
	fine     trouble = iota
	cut              // connections are closed, and new ones closed at once
	hole             // connections stay, nothing passes: no error, no end
	slow             // every piece is held back for a time
	cutAfter         // connections are closed in the midst of a piece after so many bytes; then all is fine again
)

// way is the direction in which a hole or a cut after bytes works.
type way int

const (
	both way = iota
	up       // to the server
	down     // from the server
)

// link is a TCP proxy in front of one server, which can be made to fail. It starts out fine.
//
// There is a proxy for this, Toxiproxy; as a library it brings an HTTP API, metrics and a logger along, and
// it cannot cut at a byte and be fine again, which is what tears a commit from its confirmation.
type link struct {
	name     string
	target   string // host:port
	listener net.Listener

	mu      sync.Mutex
	state   trouble
	way     way
	delay   time.Duration
	left    int64         // bytes until the cut
	changed chan struct{} // closed at every change
	conns   map[*passage]struct{}
	met     met
}

// met is what has met a link's trouble.
type met struct {
	cuts  int // connections that were closed, or refused
	holes int // pieces that a hole has swallowed, or held until it was healed
	slow  int // pieces that were held back for a time
}

// passage is one connection through the link, both its ends.
type passage struct {
	client, server net.Conn
	once           sync.Once
	ended          chan struct{}
}

// openLink listens on a free port of this machine.
func openLink(name, target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link %s: %w", name, err)
	}
	k := &link{name: name, target: target, listener: l, changed: make(chan struct{}), conns: map[*passage]struct{}{}}
	go k.accept()
	return k, nil
}

// addr is where clients connect, host:port.
func (l *link) addr() string { return l.listener.Addr().String() }

func (l *link) close() {
	_ = l.listener.Close()
	l.set(cut, both, 0, 0)
}

// set changes the link's trouble, also for connections that are open.
func (l *link) set(state trouble, way way, delay time.Duration, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.way, l.delay, l.left = state, way, delay, bytes
	close(l.changed)
	l.changed = make(chan struct{})
	if state == cut {
		l.drop()
	}
}

func (l *link) heal() { l.set(fine, both, 0, 0) }

// drop closes all connections; the caller has the lock.
func (l *link) drop() {
	for p := range l.conns {
		p.end()
		l.met.cuts++
	}
	clear(l.conns)
}

func (l *link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.connect(client)
	}
}

func (l *link) connect(client net.Conn) {
	const dialTimeout = 5 * time.Second
	server, err := (&net.Dialer{Timeout: dialTimeout}).Dial("tcp", l.target)
	if err != nil {
		_ = client.Close() // as if nobody listened
		return
	}
	p := &passage{client: client, server: server, ended: make(chan struct{})}
	l.mu.Lock()
	if l.state == cut {
		l.met.cuts++
		l.mu.Unlock()
		p.end()
		return
	}
	l.conns[p] = struct{}{}
	l.mu.Unlock()
	go l.copy(p, up, client, server)
	go l.copy(p, down, server, client)
}

// end closes both ends with a reset, so that what is under way is lost.
func (p *passage) end() {
	p.once.Do(func() {
		close(p.ended)
		for _, c := range []net.Conn{p.client, p.server} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

// copy carries one direction of a connection until it ends.
func (l *link) copy(p *passage, w way, from io.Reader, to io.Writer) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pass, whole := l.pass(p, w, n)
			if _, err := to.Write(buf[:pass]); err != nil || !whole {
				break
			}
		}
		if err != nil {
			break
		}
	}
	l.mu.Lock()
	delete(l.conns, p)
	l.mu.Unlock()
	p.end()
}

// pass waits until a piece of n bytes may go, and says how much of it; not whole: then the connection ends.
func (l *link) pass(p *passage, w way, n int) (pass int, whole bool) {
	for held, swallowed := false, false; ; {
		l.mu.Lock()
		state, changed, delay := l.state, l.changed, l.delay
		here := l.way == both || l.way == w
		if state == cutAfter && here {
			defer l.mu.Unlock()
			if l.left -= int64(n); l.left > 0 {
				return n, true
			}
			l.state = fine
			l.met.cuts++
			return max(0, n+int(l.left)), false
		}
		if state == hole && here && !swallowed {
			swallowed = true
			l.met.holes++
		}
		if state == slow && !held {
			l.met.slow++
		}
		l.mu.Unlock()
		var wait <-chan time.Time
		switch {
		case state == hole && here:
		case state == slow && !held:
			held = true
			timer := time.NewTimer(delay)
			defer timer.Stop()
			wait = timer.C
		default:
			return n, state != cut
		}
		select {
		case <-changed:
		case <-wait:
		case <-p.ended:
			return 0, false
		}
	}
}

func (l *link) metSoFar() met {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.met
}
