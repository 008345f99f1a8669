package embedded

import (
	"fmt"
	"net"
	"strconv"
)

// listenAddr is a TCP address a server is to listen on.
type listenAddr struct {
	host string
	port int // 0: any free one
}

// parseListen reads host:port; "" is a free port on 127.0.0.1, an empty host every interface.
func parseListen(s string) (listenAddr, error) {
	if s == "" {
		return listenAddr{host: "127.0.0.1"}, nil
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return listenAddr{}, fmt.Errorf("listen address %q is not host:port: %w", s, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return listenAddr{}, fmt.Errorf("listen address %q: port %q is not a number from 0 to 65535", s, portText)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return listenAddr{host: host, port: int(port)}, nil
}

func (a listenAddr) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// probe reports why the address cannot be listened on, before a server is started that would only log it.
func (a listenAddr) probe() error {
	_, err := a.freePort()
	return err
}

// freePort is the address's port or, where that is 0, one that was free a moment ago.
func (a listenAddr) freePort() (int, error) {
	l, err := net.Listen("tcp", a.String())
	if err != nil {
		// The error of net carries the address and the cause, e.g. "bind: address already in use".
		return 0, fmt.Errorf("cannot listen on %s, choose another address: %w", a, err)
	}
	port := portOf(l.Addr())
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("close probe of %s: %w", a, err)
	}
	return port, nil
}

// dialable is how a client on this machine reaches the address: host:port, every-interface hosts as loopback.
func (a listenAddr) dialable(port int) string {
	host := a.host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func portOf(addr net.Addr) int { return addr.(*net.TCPAddr).Port }
