package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Hint is what to add to the error that cmd has ended with: nothing, or, where cmd was refused at a default address
// because no instance runs on this machine and none was named, what to do about that.
func Hint(cmd *cobra.Command, err error) string {
	r, loadErr := sourcesOf(cmd).load()
	if loadErr != nil {
		return ""
	}
	for _, to := range []struct {
		group         Group
		setting, flag string
		address       URL
		refused       bool
	}{
		{API, "http.url", "--http", r.config.HTTP.URL, errors.Is(err, syscall.ECONNREFUSED)},
		{NATS, "nats.url", "--nats", r.config.NATS.URL, strings.Contains(err.Error(), "connect to NATS at ")},
	} {
		if !to.refused || !hasGroup(cmd, to.group) || r.origin[to.setting] != "" {
			continue
		}
		u, parseErr := url.Parse(string(to.address))
		if parseErr == nil && strings.Contains(err.Error(), u.Host) {
			return fmt.Sprintf("\nno running instance found on this machine; start `weir up` or give %s URL", to.flag)
		}
	}
	return ""
}
