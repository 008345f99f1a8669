// Package check is `weir check`: it validates definitions without running
// anything.
package check

import (
	"fmt"

	"github.com/spf13/cobra"

	"weir/services/config"
	"weir/services/wire"
)

// Command is `weir check`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Validate definitions",
		Long:    `Load the definitions and report every problem in them, each with file and line. Nothing is contacted or changed.`,
		Example: `  weir check --streams ./streams`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd)
			if err != nil {
				return err
			}
			catalog, err := wire.Catalog(cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %d streams, %d aggregations, %d alert rules\n",
				len(catalog.Streams), len(catalog.Aggregations), len(catalog.Rules))
			return err
		},
	}
	config.Flags(cmd, config.Definitions, config.Unused)
	return cmd
}
