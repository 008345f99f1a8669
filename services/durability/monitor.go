package durability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// monitorTimeout bounds the question to one server.
const monitorTimeout = 3 * time.Second

// askMonitors asks the monitoring ports of the NATS servers, URLs separated by
// commas, how often they sync. Of several, the weakest counts; one that does not
// answer makes the answer unknown, unless another is less than always.
func askMonitors(ctx context.Context, urls string) Sync {
	if urls == "" {
		return Sync{Why: "clients cannot see it; give the servers' monitoring address with --nats-monitor http://HOST:8222"}
	}
	all := Sync{Always: true}
	for address := range strings.SplitSeq(urls, ",") {
		one, err := askMonitor(ctx, strings.TrimSpace(address))
		switch {
		case err != nil:
			all.Always, all.Why = false, err.Error()
		case !one.Always:
			all.Always, all.Interval = false, max(all.Interval, one.Interval)
		}
	}
	return all
}

func askMonitor(ctx context.Context, address string) (Sync, error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	u, err := url.JoinPath(address, "jsz")
	if err != nil {
		return Sync{}, fmt.Errorf("the monitoring address: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return Sync{}, fmt.Errorf("the monitoring address: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Sync{}, fmt.Errorf("ask the monitoring port: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	var answer struct {
		Disabled bool `json:"disabled"`
		Config   struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"` // a number of nanoseconds
		} `json:"config"`
	}
	if response.StatusCode != http.StatusOK {
		return Sync{}, fmt.Errorf("%s answers %s", request.URL.Redacted(), response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return Sync{}, fmt.Errorf("%s does not answer as NATS: %w", request.URL.Redacted(), err)
	}
	if answer.Disabled || !answer.Config.SyncAlways && answer.Config.SyncInterval <= 0 {
		return Sync{}, errors.New(request.URL.Redacted() + " does not say: JetStream is off there, or the server too old")
	}
	return Sync{Always: answer.Config.SyncAlways, Interval: answer.Config.SyncInterval}, nil
}
