package notify

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// guard dials only addresses of the public Internet, and those that are allowed
// by name. It looks a host up once and dials what it has looked at, so that no
// second answer of a name server can lead elsewhere.
type guard struct {
	allow  []netip.Prefix
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dialer net.Dialer
}

func newGuard(allow []netip.Prefix) *guard {
	return &guard{allow: allow, lookup: net.DefaultResolver.LookupNetIP, dialer: net.Dialer{Timeout: 5 * time.Second}}
}

// dial connects to host:port, where every address of the host may be dialled.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := g.lookup(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	for _, a := range addresses {
		if !g.allows(a) {
			a = a.Unmap().WithZone("")
			return nil, fmt.Errorf("look up %s: %s is no address of the public Internet; if it is meant, list it under allow, as in allow: [%s]",
				host, a, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	err = fmt.Errorf("%s has no address", host)
	for _, a := range addresses {
		var conn net.Conn
		if conn, err = g.dialer.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (g *guard) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return public(a) || slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// special are the networks within the unicast space that are not the public
// Internet, by IANA's registries of special-purpose addresses, and one address
// that a cloud has given to its metadata.
const special = `0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
	192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
	224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
	2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20`

// public reports whether an address, unmapped and without a zone, is of the
// public Internet. Of IPv6 that is 2000::/3 alone, and nothing in it that
// carries IPv4 addresses in disguise.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.Is6() && a.As16()[0]>>5 != 1 {
		return false
	}
	for _, network := range strings.Fields(special) {
		if netip.MustParsePrefix(network).Contains(a) {
			return false
		}
	}
	return true
}
