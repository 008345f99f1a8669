package query

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard refuses a write that some page may have made a browser send: the API
// knows nobody, so whoever reaches it from the machine it listens on could
// otherwise have the pages that are read there write. A program that is no browser
// has only to say that what it sends is JSON, which no form can.
func guard(r *http.Request) error {
	if err := refuseOthersPages(r); err != nil {
		return err
	}
	if r.Method == http.MethodDelete && r.ContentLength == 0 {
		return nil // nothing is sent, and no form can
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &Error{http.StatusUnsupportedMediaType, "what is sent here must be JSON, and say so: Content-Type: application/json"}
	}
	return nil
}

// GuardForm refuses a form that is not sent from a page of this server itself. Any
// page can send a form to any site, so the browser must say from where it is.
func GuardForm(r *http.Request) error {
	if r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return &Error{http.StatusForbidden, "this is for the forms of Weir's own pages; programs use /api/v1"}
	}
	if err := refuseOthersPages(r); err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return &Error{http.StatusUnsupportedMediaType, "this takes what a form sends"}
	}
	return nil
}

// refuseOthersPages refuses a request that a page of another site has made. It is
// told by Sec-Fetch-Site and Origin. And a page whose site has given its name the
// address of this machine is told by that name, where the API listens for this machine
// alone.
func refuseOthersPages(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return &Error{http.StatusForbidden, "a page of another site may not write here; ask from the API's own address, or with a program that is no browser"}
	}
	browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); browser && local != nil && loopback(local.String()) && !loopback(r.Host) {
		return &Error{http.StatusForbidden, "the API is asked for under the name " + clip(r.Host) +
			", but listens for this machine alone, so a page may write only as localhost; a proxy on this machine must send the Host that it asks"}
	}
	return nil
}

// loopback reports whether a host, with a port or without, is this machine.
func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// clip shortens what somebody sent, for a sentence.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
