// Package healthcheck is `weir healthcheck URL`, the probe for containers: their image has
// no shell and no HTTP client but weir itself.
package healthcheck

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Command is `weir healthcheck URL`.
func Command() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck URL",
		Short: "Ask a URL for its health; succeeds on status 200",
		Long: `Ask a URL for its health, as the health check of a container does: the exit code is 0 if it answers with status 200 within a few
seconds, else 1, and the answer is on standard error.`,
		Example: "  weir healthcheck http://127.0.0.1:8080/readyz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return check(ctx, args[0])
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "give up after this `time`")
	return cmd
}

// check returns nil when a GET of url answers 200, else an error with the start of the answer.
func check(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1024))
	if err != nil {
		return fmt.Errorf("check health: %s answered %s: %w", url, response.Status, err)
	}
	return fmt.Errorf("check health: %s answered %s: %s", url, response.Status, strings.TrimSpace(string(body)))
}
