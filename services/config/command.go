package config

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Command is `weir config`: what the settings are, and whether they are right.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show or check the settings",
		Long: `Settings come from flags, then WEIR_* variables of the environment, then a YAML file (--config, or WEIR_CONFIG), then the instance
that runs on this machine, then the defaults. These commands show what comes of that, and connect to nothing.`,
		Example: `  weir config print
  weir config check --config weir.yaml`,
	}
	cmd.AddCommand(printCommand(), checkCommand())
	return cmd
}

func printCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the settings as YAML, each with its origin, secrets hidden",
		Long: `Print all settings as a YAML file that weir can read, with where each is from: a flag, a variable, a line of a file, the instance
that runs on this machine, or the default. Passwords are not shown.`,
		Example: `  weir config print
  WEIR_WORKER_MEMORY=512MiB weir config print --config weir.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := sourcesOf(cmd).load()
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	allFlags(cmd)
	return cmd
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, without connecting to anything",
		Long: `Check all settings, and report every problem with what would be right. The exit code is 2 if there is any. Nothing is
connected to.`,
		Example: `  weir config check --config weir.yaml
  weir config check --nats nats://nats.example:4222`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := sourcesOf(cmd).load(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
			return err
		},
	}
	allFlags(cmd)
	return cmd
}

// allFlags gives the settings of the servers; those of the clients are in the file and the environment.
func allFlags(cmd *cobra.Command) {
	Flags(cmd, NATS, Postgres, Listen, Health, Shard, Definitions, Alerts, Publisher)
}

// print writes the settings as a file that weir can read, with an aligned comment on where each is from.
func (r result) print(w io.Writer) error {
	type row struct{ text, origin string }
	var rows []row
	width, section := 0, ""
	for _, s := range settings(r.config) {
		parent, name, nested := strings.Cut(s.name, ".")
		indent := "  "
		if !nested {
			parent, name, indent = "", s.name, ""
		}
		if parent != section {
			section = parent
			if nested {
				rows = append(rows, row{text: parent + ":"})
			}
		}
		value, err := yaml.Marshal(scalar(s.value))
		if err != nil {
			return fmt.Errorf("print %s: %w", s.name, err)
		}
		origin := r.origin[s.name]
		if origin == "" {
			origin = "default"
		}
		line := row{indent + name + ": " + strings.TrimSpace(string(value)), origin}
		width = max(width, len(line.text))
		rows = append(rows, line)
	}
	for _, line := range rows {
		text := line.text
		if line.origin != "" {
			text = fmt.Sprintf("%-*s  # %s", width, line.text, line.origin)
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// scalar is what stands for a value in YAML: numbers, true and false as such, all else as text.
func scalar(value any) any {
	switch value.(type) {
	case int, bool:
		return value
	}
	return format(value)
}
