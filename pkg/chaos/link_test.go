package chaos

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// echo is a server that returns what it gets, behind a link, and a connection to it.
func echo(t *testing.T) (*link, func() net.Conn) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	l, err := openLink("test", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, func() net.Conn {
		c, err := net.Dial("tcp", l.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// exchange sends a text and returns what comes back, of as many bytes, within the time.
func exchange(c net.Conn, text string, within time.Duration) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, len(text))
	n, err := io.ReadFull(c, buf)
	return string(buf[:n]), err
}

const long = 10 * time.Second // for what takes moments

func TestLink_CarriesBothWaysAndAgainAfterItIsHealed(t *testing.T) {
	t.Parallel()
	l, dial := echo(t)
	c := dial()
	if got, err := exchange(c, "hello", long); got != "hello" || err != nil {
		t.Fatalf("through a fine link: %q, %v", got, err)
	}
	l.set(cut, both, 0, 0)
	if got, err := exchange(c, "hello", long); err == nil {
		t.Errorf("through a link that is cut: %q", got)
	}
	if got, err := exchange(dial(), "hello", long); err == nil {
		t.Errorf("through a new connection of a link that is cut: %q", got)
	}
	l.heal()
	if got, err := exchange(dial(), "hello", long); got != "hello" || err != nil {
		t.Errorf("through a link that was healed: %q, %v", got, err)
	}
	if l.metSoFar().cuts != 2 {
		t.Errorf("%d connections were cut or refused, want 2", l.metSoFar().cuts)
	}
}

func TestLink_HoleSwallowsWithoutAnErrorAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]way{"both": both, "up": up, "down": down} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dial := echo(t)
			c := dial()
			if _, err := exchange(c, "hello", long); err != nil {
				t.Fatal(err)
			}
			l.set(hole, w, 0, 0)
			if got, err := exchange(c, "held", 100*time.Millisecond); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("through a hole: %q, %v; want nothing, and no end", got, err)
			}
			l.heal()
			_ = c.SetReadDeadline(time.Now().Add(long))
			buf := make([]byte, 4)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "held" {
				t.Errorf("after the hole: %q, %v", buf, err)
			}
		})
	}
}

func TestLink_TearsAtAByteAndIsFineAgain(t *testing.T) {
	t.Parallel()
	l, dial := echo(t)
	c := dial()
	l.set(cutAfter, down, 0, 150)
	text := strings.Repeat("x", 100)
	if got, err := exchange(c, text, long); got != text || err != nil {
		t.Fatalf("before the byte: %d bytes, %v", len(got), err)
	}
	// How much of the torn piece arrives is up to the network: the connection ends by a reset. But not more than 50 bytes.
	if got, err := exchange(c, text, long); err == nil || len(got) > 50 {
		t.Errorf("at the byte: %d bytes, %v; want at most 50 and an error", len(got), err)
	}
	if got, err := exchange(dial(), text, long); got != text || err != nil {
		t.Errorf("after it: %d bytes, %v", len(got), err)
	}
}

func TestLink_IsSlow(t *testing.T) {
	t.Parallel()
	l, dial := echo(t)
	c := dial()
	const delay = 50 * time.Millisecond
	l.set(slow, both, delay, 0)
	begin := time.Now()
	if _, err := exchange(c, "hello", long); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("there and back took %s, want at least %s", took, 2*delay)
	}
}
