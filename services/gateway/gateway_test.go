package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"weir/pkg/embedded/embeddedtest"
	"weir/pkg/stream"
)

func TestGateway_RefusesToStartWhereNothingIsProvisioned(t *testing.T) {
	t.Parallel()
	url := embeddedtest.NATS(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"HTTP", nil},
		{"simulated", []string{"--simulate", "100"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := Command()
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			cmd.SetArgs(append([]string{"--nats", url, "--listen", "127.0.0.1:0"}, tt.args...))
			if err := cmd.ExecuteContext(ctx); !errors.Is(err, stream.ErrNotProvisioned) {
				t.Errorf("weir gateway = %v, want ErrNotProvisioned", err)
			}
		})
	}
}
