package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"weir/pkg/alert"
)

// The headers of a webhook's request.
const (
	AlertHeader     = "Weir-Alert-Id"  // the alert's id; the same for everything that is sent twice
	RepeatHeader    = "Weir-Repeat"    // how often the alert was told of before; 0: it is new
	TimestampHeader = "Weir-Timestamp" // when it was signed, in seconds since 1970
	SignatureHeader = "Weir-Signature" // v1= and 64 hexadecimal digits, see [Verify]
	TestHeader      = "Weir-Test"      // true: somebody tries out the notifier
)

// WebhookConfig says where to post alerts.
type WebhookConfig struct {
	URL    Secret // http or https; a secret, because those of many services are
	Secret Secret // signs the requests; empty: they are not signed
	// Allow are the networks that are no part of the public Internet and may be
	// posted to all the same: this machine, private and link-local ones.
	Allow       []netip.Prefix
	Authorities *x509.CertPool // nil: those of the system
}

// Webhook posts alerts, each in a request of its own, in the form in which
// subscribers of NATS receive them. What it is told to post to must be on the
// public Internet, unless the configuration says otherwise, and it follows no redirects.
type Webhook struct {
	endpoint endpoint
	guard    *guard
	secret   Secret
}

// NewWebhook returns the notifier.
func NewWebhook(cfg WebhookConfig) *Webhook {
	guard := newGuard(cfg.Allow)
	return &Webhook{endpoint: newEndpoint(cfg.URL, cfg.Authorities, guard.dial), guard: guard, secret: cfg.Secret}
}

// Wants is part of Notifier.
func (w *Webhook) Wants(*alert.Alert) bool { return true }

// Most is part of Notifier.
func (w *Webhook) Most() int { return 1 }

// Send is part of Notifier.
func (w *Webhook) Send(ctx context.Context, notices []Notice) (string, error) {
	for i := range notices {
		if err := w.send(ctx, &notices[i]); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (w *Webhook) send(ctx context.Context, n *Notice) error {
	body, err := json.Marshal(n.Alert)
	if err != nil {
		return refusal{fmt.Errorf("encode alert: %w", err)}
	}
	header := http.Header{}
	header.Set(AlertHeader, oneLine(n.Alert.ID, 200))
	header.Set(RepeatHeader, strconv.Itoa(n.Repeat))
	if n.Test {
		header.Set(TestHeader, "true")
	}
	timestamp := strconv.FormatInt(n.Now.Unix(), 10)
	header.Set(TimestampHeader, timestamp)
	if !w.secret.empty() {
		header.Set(SignatureHeader, sign(w.secret, timestamp, body))
	}
	return w.endpoint.post(ctx, header, body)
}

// sign is v1= and the HMAC-SHA256, by the secret, of the timestamp, a point, and
// the body.
func sign(secret Secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret.reveal()))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Verify is for receivers of webhooks: it reports what is wrong with a request,
// whose body is given as it came: it must be signed by the secret, within
// tolerance of now (5 minutes are usual), so that nobody can send it again later.
func Verify(secret Secret, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	timestamp := header.Get(TimestampHeader)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New(TimestampHeader + " is missing, or is no number of seconds")
	}
	want := sign(secret, timestamp, body)
	signed := false
	for _, signature := range strings.Split(header.Get(SignatureHeader), ",") {
		signed = hmac.Equal([]byte(strings.TrimSpace(signature)), []byte(want)) || signed
	}
	switch {
	case secret.empty() || !signed:
		return errors.New(SignatureHeader + " is not the one of this body, timestamp and secret")
	case now.Sub(time.Unix(seconds, 0)).Abs() > tolerance:
		return errors.New(TimestampHeader + " is too far from now: the request is an old one, or a clock is wrong")
	}
	return nil
}
