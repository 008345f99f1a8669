package stream

import "strings"

// Names of what Provision creates. They are part of the contract on the wire.
const (
	EventsStream = "EVENTS"
	AlertsStream = "ALERTS"
	FoldConsumer = "fold"
)

// Scopes of an alert, the second token of its subject.
const (
	ScopeLocal  = "local"
	ScopeGlobal = "global"
)

const (
	eventsPrefix = "events."
	alertsPrefix = "alerts."
	allEvents    = eventsPrefix + ">"
	allAlerts    = alertsPrefix + ">"
	anyToken     = "*"

	maxToken = 128
)

// EventSubject is the subject for events of one type from one source:
// events.<type>.<source>. Both must be valid tokens ([ValidToken]).
func EventSubject(eventType, source string) string {
	return eventsPrefix + eventType + "." + source
}

// ParseEventSubject takes an event subject apart. It is not ok for anything
// but exactly three tokens, the first being "events".
func ParseEventSubject(subject string) (eventType, source string, ok bool) {
	rest, ok := strings.CutPrefix(subject, eventsPrefix)
	if !ok {
		return "", "", false
	}
	eventType, source, ok = strings.Cut(rest, ".")
	if !ok || !ValidToken(eventType) || !ValidToken(source) {
		return "", "", false
	}
	return eventType, source, true
}

// AlertSubject is the subject for alerts of one rule: alerts.<scope>.<rule>,
// where scope is [ScopeLocal] or [ScopeGlobal].
func AlertSubject(scope, rule string) string {
	return alertsPrefix + scope + "." + rule
}

func parseAlertSubject(subject string) (scope, rule string, ok bool) {
	rest, ok := strings.CutPrefix(subject, alertsPrefix)
	if !ok {
		return "", "", false
	}
	scope, rule, ok = strings.Cut(rest, ".")
	if !ok || !ValidToken(scope) || !ValidToken(rule) {
		return "", "", false
	}
	return scope, rule, true
}

// alertFilter is the subject filter for alerts; an empty part means any.
func alertFilter(scope, rule string) string {
	if scope == "" {
		scope = anyToken
	}
	if rule == "" {
		rule = anyToken
	}
	return AlertSubject(scope, rule)
}

// ValidToken reports whether s can be an event type, a source, a scope or a
// rule: 1 to 128 printable ASCII characters without space, and without
// '.', '*', '>' (NATS gives them a meaning in subjects) and '/' (it separates
// the parts of a message identity).
func ValidToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c > '~':
			return false
		case c == '.' || c == '*' || c == '>' || c == '/':
			return false
		}
	}
	return true
}
