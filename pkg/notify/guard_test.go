package notify

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestGuard_AllowsThePublicInternetOnly(t *testing.T) {
	t.Parallel()
	g := newGuard(nil)
	for text, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "93.184.216.34": true, "172.15.255.255": true, "172.32.0.1": true, "100.63.255.255": true, "100.128.0.1": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001:81b::200e": true, "::ffff:1.1.1.1": true,

		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "100.64.0.1": false,
		"169.254.1.1": false, "169.254.169.254": false, "168.63.129.16": false, "100.100.100.200": false, // metadata of clouds
		"192.0.0.1": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.7": false, "203.0.113.9": false,
		"224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false, "192.88.99.1": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "fec0::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, // an IPv4 address within
		"2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, "2001::1": false, "2001:0:7f00:1::": false, "2001:db8::1": false, "3fff::1": false, "100::1": false,
	} {
		if got := g.allows(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: allowed %v, want %v", text, got, want)
		}
	}
	some := newGuard([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")})
	for text, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "::1": true, "127.0.0.1": false, "169.254.169.254": false, "8.8.8.8": true,
	} {
		if got := some.allows(netip.MustParseAddr(text)); got != want {
			t.Errorf("with some networks allowed, %s: allowed %v, want %v", text, got, want)
		}
	}
}

func TestGuard_RefusesEveryWayOfWritingAnAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	defer server.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	for _, host := range []string{
		"localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "0.0.0.0", "0",
		"localhost.", "LOCALHOST", "127.0.0.1.",
	} {
		w := NewWebhook(WebhookConfig{URL: NewSecret("http://" + host + ":" + port + "/")})
		if err := sendOne(t, w, 10*time.Second); err == nil {
			t.Errorf("%s is reached", host)
		}
	}
}

// A name server that answers another thing each time it is asked cannot lead
// the connection to what was not looked at.
func TestGuard_LooksUpOnceAndDialsWhatItHasLookedAt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	defer server.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	answers := func(addresses ...string) func(context.Context, string, string) ([]netip.Addr, error) {
		asked := 0
		return func(context.Context, string, string) ([]netip.Addr, error) {
			asked++
			if asked > 1 {
				return []netip.Addr{netip.MustParseAddr("169.254.169.254")}, nil
			}
			var all []netip.Addr
			for _, a := range addresses {
				all = append(all, netip.MustParseAddr(a))
			}
			return all, nil
		}
	}
	g := newGuard(thisMachine())
	g.lookup = answers("127.0.0.1")
	conn, err := g.dial(t.Context(), "tcp", "rebinding.example:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := conn.RemoteAddr().String(); got != "127.0.0.1:"+port {
		t.Errorf("connected to %s", got)
	}
	// One address that is refused is enough: which one is dialled would be chance.
	for _, addresses := range [][]string{{"127.0.0.1", "10.0.0.1"}, {"10.0.0.1", "127.0.0.1"}, {"169.254.169.254"}, {}} {
		g.lookup = answers(addresses...)
		if conn, err := g.dial(t.Context(), "tcp", "mixed.example:"+port); err == nil {
			_ = conn.Close()
			t.Errorf("%v is dialled", addresses)
		}
	}
}
