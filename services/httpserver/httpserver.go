// Package httpserver is how every role serves HTTP: [Listen], tell where with
// [URL], then [Serve] until it is time to end.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	requestTimeout = 10 * time.Second // to send a request
	answerTimeout  = 2 * time.Minute  // to work out an answer and receive it
	drainTimeout   = 10 * time.Second // to finish what is in hand at the end
)

// Listen opens the address, host:port; port 0 is a free one, and no host is
// every interface.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	return listener, nil
}

// URL is where a client on this machine reaches the listener:
// http://127.0.0.1:8080, also where it listens on every interface.
func URL(listener net.Listener) string {
	address := listener.Addr().String()
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return "http://" + address
}

// Serve answers requests on the listener until ctx ends, finishes those in
// hand, and closes the listener.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       answerTimeout,
		MaxHeaderBytes:    64 << 10,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close() // whoever is still served has had their time
		}
		stopped <- err
	})
	err := server.Serve(listener)
	if !stop() { // Serve returns at once; Shutdown waits for what is in hand
		err = <-stopped
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}
