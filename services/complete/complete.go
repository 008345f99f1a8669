// Package complete gives the shells what may follow on the command line: names of aggregations, rules, columns and
// granularities, by the definitions that the command would work by, and words from lists. It asks no server.
package complete

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"weir/pkg/aggregation"
	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/services/config"
	"weir/services/wire"
)

// words completes a value, or an argument.
type words = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// Words completes a flag with one of some words.
func Words(cmd *cobra.Command, flag string, list ...string) {
	register(cmd, flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return list, cobra.ShellCompDirectiveNoFileComp
	})
}

// register is for flags that exist: anything else is a mistake of whoever wrote the command.
func register(cmd *cobra.Command, flag string, complete words) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err)
	}
}

// catalog is what the flags of cmd say is defined, without what cannot be read.
func catalog(cmd *cobra.Command) *definition.Catalog {
	cfg, err := config.Load(cmd)
	if err != nil {
		cfg = config.Default()
	}
	c, err := wire.Catalog(cfg)
	if err != nil {
		return &definition.Catalog{}
	}
	return c
}

// Aggregations completes the first argument with the name of an aggregation.
func Aggregations(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return aggregations(catalog(cmd)), cobra.ShellCompDirectiveNoFileComp
	}
}

// Aggregation completes a flag with the name of an aggregation.
func Aggregation(cmd *cobra.Command, flag string) {
	register(cmd, flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return aggregations(catalog(cmd)), cobra.ShellCompDirectiveNoFileComp
	})
}

func aggregations(c *definition.Catalog) []string {
	var names []string
	for _, def := range c.Aggregations {
		names = append(names, cobra.CompletionWithDesc(def.Name, def.Doc))
	}
	return names
}

// Granularity completes a flag with what the aggregation of the first argument keeps.
func Granularity(cmd *cobra.Command, flag string) {
	register(cmd, flag, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		kept := aggregation.Granularities()
		if def := asked(cmd, args); def != nil {
			kept = def.Granularities
		}
		var names []string
		for _, g := range kept {
			names = append(names, g.String())
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	})
}

// Columns completes a flag with columns of the aggregation of the first argument, separated by commas.
func Columns(cmd *cobra.Command, flag string) {
	register(cmd, flag, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		def := asked(cmd, args)
		if def == nil {
			return nil, more
		}
		names := []string{"bucket"}
		for _, key := range def.Keys {
			names = append(names, key.Name)
		}
		for _, measure := range def.Measures {
			names = append(names, measure.Name)
		}
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		given := strings.Split(before, ",")
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(given, name) })
		for i := range names {
			names[i] = before + names[i]
		}
		return names, more
	})
}

// asked is the aggregation of the first argument, or nil.
func asked(cmd *cobra.Command, args []string) *aggregation.Definition {
	if len(args) == 0 {
		return nil
	}
	return catalog(cmd).Aggregation(args[0])
}

// Rules completes the first argument with the name of an alert rule.
func Rules(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return rules(catalog(cmd).Rules), cobra.ShellCompDirectiveNoFileComp
	}
}

// Rule completes a flag with the name of an alert rule.
func Rule(cmd *cobra.Command, flag string) {
	register(cmd, flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return rules(catalog(cmd).Rules), cobra.ShellCompDirectiveNoFileComp
	})
}

func rules(all []*alert.Rule) []string {
	var names []string
	for _, rule := range all {
		names = append(names, rule.Name)
	}
	return names
}
