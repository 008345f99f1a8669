package notify

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"weir/pkg/alert"
)

const (
	// resendEvery is how often Alertmanager is told of what still fires, as by Prometheus.
	resendEvery = time.Minute
	// expireAfter is when Alertmanager takes an alert for over of which it hears
	// nothing more: it may miss some tellings, and it learns of our end.
	expireAfter = 4 * resendEvery
	// localFor is how long Alertmanager shows a local alert, which is never resolved.
	localFor = 10 * time.Minute
	// mostAlerts are sent to it at a time.
	mostAlerts = 256
	// mostLabel and mostAnnotation are in bytes.
	mostLabel, mostAnnotation = 512, 4096
)

// AlertmanagerConfig says how to reach a Prometheus Alertmanager.
type AlertmanagerConfig struct {
	URL         string // http://host:9093, with its path prefix where it has one
	User        string // basic authentication, or
	Password    Secret
	Token       Secret         // a bearer token
	Authorities *x509.CertPool // nil: those of the system
}

// Alertmanager tells a Prometheus Alertmanager, by its API v2. It expects to hear
// of what fires again and again, and ends what it does not; several of them in a
// cluster must each be told, and so are a notifier each.
type Alertmanager struct {
	endpoint      endpoint
	authorization Secret // the header's value
	expire        time.Duration
	showFor       time.Duration
}

// NewAlertmanager returns the notifier.
func NewAlertmanager(cfg AlertmanagerConfig) *Alertmanager {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	m := &Alertmanager{
		endpoint: newEndpoint(NewSecret(strings.TrimSuffix(cfg.URL, "/")+"/api/v2/alerts"), cfg.Authorities, dialer.DialContext),
		expire:   expireAfter, showFor: localFor,
	}
	switch {
	case !cfg.Token.empty():
		m.authorization = NewSecret("Bearer " + cfg.Token.reveal())
	case cfg.User != "":
		m.authorization = NewSecret("Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.User+":"+cfg.Password.reveal())))
	}
	return m
}

// Wants is part of Notifier.
func (m *Alertmanager) Wants(*alert.Alert) bool { return true }

// Most is part of Notifier.
func (m *Alertmanager) Most() int { return mostAlerts }

// postableAlert is one of the API's.
type postableAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Send is part of Notifier.
func (m *Alertmanager) Send(ctx context.Context, notices []Notice) (string, error) {
	alerts := make([]postableAlert, len(notices))
	for i := range notices {
		alerts[i] = m.postable(&notices[i])
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		return "", refusal{fmt.Errorf("encode alerts: %w", err)}
	}
	header := http.Header{}
	if !m.authorization.empty() {
		header.Set("Authorization", m.authorization.reveal())
	}
	return "", m.endpoint.post(ctx, header, body)
}

// postable is a notice as Alertmanager knows alerts: told apart by their labels,
// and over at a time that lies ahead while they fire.
func (m *Alertmanager) postable(n *Notice) postableAlert {
	a := &n.Alert
	p := postableAlert{Labels: labels(a), Annotations: annotations(a), StartsAt: a.FiredAt, EndsAt: n.Now.Add(m.expire)}
	if p.StartsAt.After(n.Now) { // event times may lie ahead
		p.StartsAt = n.Now
	}
	if since, over := n.over(); over {
		p.EndsAt = since
		if since.After(n.Now) || since.IsZero() {
			p.EndsAt = n.Now
		}
		if p.StartsAt.After(p.EndsAt) {
			p.StartsAt = p.EndsAt
		}
	} else if a.Scope == alert.ScopeLocal {
		p.EndsAt = n.Now.Add(m.showFor)
	}
	return p
}

// labels are the same for an alert that fires and for its resolution: its key
// under its own names, the rule's labels, and what Weir says of every alert.
func labels(a *alert.Alert) map[string]string {
	labels := map[string]string{}
	for _, named := range []map[string]string{a.Key, a.Labels, {
		"alertname": a.Rule, "rule_case": a.Case, "scope": string(a.Scope), "severity": severityWord(a.Severity), "shard_id": a.ShardID,
	}} {
		for name, value := range named {
			if value = oneLine(value, mostLabel); value != "" { // one without a value is none
				labels[labelName(name)] = value
			}
		}
	}
	return labels
}

func annotations(a *alert.Alert) map[string]string {
	all := map[string]string{
		"summary": a.Message, "id": a.ID,
		"value": strconv.FormatFloat(a.Value, 'f', -1, 64), "threshold": strconv.FormatFloat(a.Threshold, 'f', -1, 64),
	}
	if a.FiringID != "" {
		all["id"] = a.FiringID
	}
	if a.Reason != "" {
		all["reason"] = a.Reason
	}
	for name, value := range a.Details {
		if name = labelName(name); all[name] == "" {
			all[name] = value
		}
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	for name, value := range all {
		all[name] = oneLine(value, mostAnnotation)
	}
	return all
}

// labelName is the name with an underscore for each character that Alertmanager
// takes in none.
func labelName(name string) string {
	clean := []byte(name)
	for i, c := range clean {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			clean[i] = '_'
		}
	}
	if len(clean) == 0 || clean[0] >= '0' && clean[0] <= '9' {
		clean = append([]byte{'_'}, clean...)
	}
	return string(clean)
}
