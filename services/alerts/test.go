package alerts

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/notify"
	"weir/services/config"
	"weir/services/wire"
)

// testCommand is `weir alerts test`.
func testCommand() *cobra.Command {
	var file, only string
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Try out notifiers with an alert that says it is a test",
		Long: `Send an alert that says it is a test, by the notifiers of a file or by one of them, whatever they are told of otherwise, and
print what the receivers say. Alertmanager shows it for some minutes, with the label test="true"; mails go to the stakeholders
who are admins. Nothing is recorded.`,
		Example: `  weir alerts test --notify notifiers.yaml
  weir alerts test --notify notifiers.yaml --notifier on-call`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd)
			if err != nil {
				return err
			}
			targets, err := notifiers(cfg, file, only)
			if err != nil {
				return err
			}
			return testAll(cmd, targets)
		},
	}
	cmd.Flags().StringVar(&file, "notify", "", "the notifiers' YAML `file`, as weir alerter has it")
	cmd.Flags().StringVar(&only, "notifier", "", "only the notifier of this `name`")
	_ = cmd.MarkFlagRequired("notify") // there is such a flag
	config.Flags(cmd, config.Definitions)
	return cmd
}

// notifiers are those of the file, or the one that is named.
func notifiers(cfg config.Config, file, only string) ([]*notify.Target, error) {
	catalog, err := wire.Catalog(cfg)
	if err != nil {
		return nil, err
	}
	targets, err := wire.Notifiers(catalog, file)
	if err != nil || only == "" {
		return targets, err
	}
	names := make([]string, len(targets))
	for i, target := range targets {
		if names[i] = target.Name; target.Name == only {
			return targets[i : i+1], nil
		}
	}
	return nil, config.Problems{fmt.Sprintf("--notifier: there is no %q; there are: %s", only, strings.Join(names, ", "))}
}

// testAll tries all of them, also after one that fails.
func testAll(cmd *cobra.Command, targets []*notify.Target) error {
	var failed []error
	for _, target := range targets {
		warning, err := target.Test(cmd.Context(), time.Now())
		switch {
		case err != nil:
			failed = append(failed, err)
		case warning != "":
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s (%s): accepted, but %s\n", target.Name, target.Type, warning)
		default:
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s (%s): accepted\n", target.Name, target.Type)
		}
	}
	return errors.Join(failed...)
}
