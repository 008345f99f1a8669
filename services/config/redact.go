package config

import (
	"net/url"
	"regexp"
	"strings"
)

const redacted = "xxxxx"

var (
	address   = regexp.MustCompile("[a-zA-Z][a-zA-Z0-9+.-]*://[^\\s\"'`]*")
	nextURL   = regexp.MustCompile(`,[a-zA-Z][a-zA-Z0-9+.-]*://`)                         // nats://a:b@one,nats://c:d@two
	bareLogin = regexp.MustCompile(`([^\s:@,"']+):([^\s,"']+)@`)                          // user:password@host:4222, as NATS takes it
	parameter = regexp.MustCompile(`(?i)\b(password|passwd|sslpassword|token)(\s*=\s*)` + // key=value
		`('(?:[^'\\]|\\.)*'|[^\s&'"]+)`)
)

// Redact returns text with the secrets of every URL and key=value connection string in it replaced
// by xxxxx: passwords, NATS tokens (nats://token@host), password=… parameters. It takes one URL as well as
// a whole error message. What cannot be parsed is redacted more, never less.
func Redact(text string) string {
	if !strings.Contains(text, "://") {
		text = bareLogin.ReplaceAllString(text, "${1}:"+redacted+"@")
	}
	text = address.ReplaceAllStringFunc(text, redactList)
	return parameter.ReplaceAllString(text, "${1}${2}"+redacted)
}

// redactList redacts each URL of a list without spaces.
func redactList(list string) string {
	var out strings.Builder
	for cut := nextURL.FindStringIndex(list); cut != nil; cut = nextURL.FindStringIndex(list) {
		out.WriteString(redactURL(list[:cut[0]]) + ",")
		list = list[cut[0]+1:]
	}
	return out.String() + redactURL(list)
}

func redactURL(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	at := strings.LastIndex(rest, "@")
	if _, err := url.Parse(address); err == nil {
		authority, _, _ := strings.Cut(rest, "/")
		if end := strings.IndexAny(authority, "?#"); end >= 0 {
			authority = authority[:end]
		}
		at = strings.LastIndex(authority, "@")
	}
	if at < 0 {
		return address
	}
	user, _, hasPassword := strings.Cut(rest[:at], ":")
	switch {
	case hasPassword:
		user += ":" + redacted
	case !strings.HasPrefix(scheme, "postgres"):
		user = redacted // a lone user name is a token for NATS
	}
	return scheme + "://" + user + rest[at:]
}
