package health

import (
	"context"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/services/config"
)

func TestProbes_WithoutAnAddressEndAtOnce(t *testing.T) {
	t.Parallel()
	probes, err := Listen(t.Context(), config.Config{}, "worker", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer probes.Close()
	if err := probes.Serve(t.Context(), Handler(nil)); err != nil {
		t.Error(err)
	}
}

func TestProbes_TakeTheirAddressAtOnceAndAnswerThere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := config.Config{HTTP: config.HTTPConfig{Health: "127.0.0.1:0"}}
	probes, err := Listen(ctx, cfg, "worker", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer probes.Close()
	address := probes.listener.Addr().String()
	cfg.HTTP.Health = address
	if _, err := Listen(ctx, cfg, "worker", zap.NewNop()); err == nil {
		t.Error("a second role got the same address")
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- probes.Serve(serving, Handler(nil)) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s", answer.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
