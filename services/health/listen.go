package health

import (
	"context"
	"net"
	"net/http"

	"go.uber.org/zap"

	"weir/services/config"
	"weir/services/httpserver"
)

// Probes is where a role that serves nothing else answers for its health: at the address of --health, or nowhere.
type Probes struct{ listener net.Listener }

// Listen takes the address, before anything is connected to, so that one that is in use ends the start at once. Without one the
// role cannot be asked. Close frees it.
func Listen(ctx context.Context, cfg config.Config, role string, log *zap.Logger) (*Probes, error) {
	if cfg.HTTP.Health == "" {
		return &Probes{}, nil
	}
	listener, err := httpserver.Listen(ctx, cfg.HTTP.Health)
	if err != nil {
		return nil, err
	}
	log.Info("answering for the "+role+"'s health", zap.String("url", httpserver.URL(listener)))
	return &Probes{listener}, nil
}

// Serve answers with the handler until ctx ends. Without an address it returns at once.
func (p *Probes) Serve(ctx context.Context, handler http.Handler) error {
	if p.listener == nil {
		return nil
	}
	return httpserver.Serve(ctx, p.listener, handler)
}

// Close frees the address; Serve has done so, where it came to that.
func (p *Probes) Close() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
}
