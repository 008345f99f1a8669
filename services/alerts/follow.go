package alerts

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/store"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
)

// follow prints alerts as they are published, until the command's context
// ends.
func follow(cmd *cobra.Command, c chosen) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	f, err := c.filter(cfg)
	if err != nil {
		return err
	}
	conn, err := wire.Stream(cmd.Context(), cfg, "alerts", config.Logger(cfg))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "following alerts.%s.%s from now on\n", cmp.Or(f.Scope, "*"), cmp.Or(f.Rule, ">"))
	return conn.SubscribeAlerts(cmd.Context(), stream.AlertFilter{Scope: f.Scope, Rule: f.Rule}, func(m stream.AlertMessage) {
		a, err := alert.Decode(m.Data)
		if err == nil && followed(f, &a) {
			err = printOne(cmd.OutOrStdout(), asJSON(cmd), a)
		}
		if err != nil { // the next one may be readable
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "alert %q: %v\n", m.MsgID, err)
		}
	})
}

// followed reports whether an alert of the right scope and rule is chosen.
func followed(f store.AlertFilter, a *alert.Alert) bool {
	for name, value := range f.Key {
		if has, ok := a.Key[name]; !ok || has != value {
			return false
		}
	}
	return (f.State == "" || f.State == store.StateAll || f.State == string(a.State)) && (f.Severity == 0 || a.Severity <= f.Severity)
}
