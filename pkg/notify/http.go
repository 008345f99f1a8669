package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	mostBody   = 1 << 20  // bytes of a request
	mostAnswer = 4 << 10  // bytes of an answer that are read
	mostHeader = 32 << 10 // bytes of an answer's header
	tellAnswer = 200      // bytes of an answer that an error shows
)

// endpoint is a URL that notices are posted to.
type endpoint struct {
	url    Secret // of many services it is one
	client *http.Client
}

// newEndpoint posts to the URL, over connections that dial makes: no proxy of
// the environment comes between, and no answer sends it elsewhere.
func newEndpoint(url Secret, roots *x509.CertPool, dial func(ctx context.Context, network, address string) (net.Conn, error)) endpoint {
	return endpoint{url: url, client: &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: mostHeader,
			MaxConnsPerHost:        2 * atOnce,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post sends the body as JSON and returns nil for an answer of 200 to 299. No
// error has more of the URL than its host: the path may be a secret.
func (e *endpoint) post(ctx context.Context, header http.Header, body []byte) error {
	if len(body) > mostBody {
		return refusal{fmt.Errorf("%d bytes are more than the %d that are sent", len(body), mostBody)}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used") // the error would show it
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "weir")
	answer, err := e.client.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return fmt.Errorf("post to %s: %w", request.URL.Host, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, mostAnswer)) // what can be read of it
	if err := judge(answer, text); err != nil {
		return fmt.Errorf("post to %s: %w", request.URL.Host, err)
	}
	return nil
}

// judge is what an answer means: nil, a refusal of what was sent, or an error of
// the receiver, which may say when to try again.
func judge(answer *http.Response, text []byte) error {
	code := answer.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err := fmt.Errorf("the answer is %d %s", code, http.StatusText(code))
	if code >= 300 && code < 400 {
		return fmt.Errorf("%w: redirects are not followed, give the URL that it leads to", err)
	}
	if line := oneLine(string(text), tellAnswer); line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestTimeout,
		http.StatusGone, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if code < 500 {
			return refusal{err}
		}
	}
	if seconds, bad := strconv.Atoi(answer.Header.Get("Retry-After")); bad == nil && seconds > 0 {
		return busy{err, time.Duration(min(seconds, 3600)) * time.Second}
	}
	return err
}
