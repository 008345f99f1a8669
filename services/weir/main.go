// Command weir measures API traffic: it folds the events that gateways publish into NATS JetStream
// into time-bucketed aggregates in Postgres, and raises alerts. Each role is a command; `weir demo` runs
// all of them at once.
//
// Exit codes:
//
//	0  done, or stopped by a signal as asked
//	1  it failed; the reason is on standard error
//	2  wrong usage or configuration
//	3  a check did not hold (weir demo --for, …)
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	_ "time/tzdata" // for definitions with a time zone, where the system has no database of them

	"github.com/spf13/cobra"

	"weir/services/alerter"
	"weir/services/alerts"
	"weir/services/api"
	"weir/services/apply"
	"weir/services/audit"
	"weir/services/auditor"
	"weir/services/bench"
	"weir/services/chaos"
	"weir/services/check"
	"weir/services/config"
	"weir/services/deadletters"
	"weir/services/demo"
	"weir/services/durability"
	"weir/services/gateway"
	"weir/services/healthcheck"
	"weir/services/purge"
	"weir/services/query"
	"weir/services/replay"
	"weir/services/report"
	"weir/services/shard"
	"weir/services/signals"
	"weir/services/sources"
	"weir/services/thresholds"
	"weir/services/top"
	"weir/services/up"
	"weir/services/version"
	"weir/services/worker"
)

const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// commands is every command of weir: first the roles, then the tools.
func commands() []*cobra.Command {
	return []*cobra.Command{
		demo.Command(),
		up.Command(),
		apply.Command(),
		worker.Command(),
		gateway.Command(),
		api.Command(),
		auditor.Command(),
		alerter.Command(),
		replay.Command(),
		query.Command(),
		alerts.Command(),
		thresholds.Command(),
		top.Command(),
		report.Command(),
		audit.Command(),
		deadletters.Command(),
		shard.Command(),
		sources.Command(),
		purge.Command(),
		check.Command(),
		bench.Command(),
		chaos.Command(),
		durability.Command(),
		config.Command(),
		healthcheck.Command(),
		version.Command(),
	}
}

func main() {
	// The first signal cancels the context, and the role ends in good order.
	os.Exit(run(signals.First(context.Background()), os.Args[1:], os.Stdout, os.Stderr))
}

// newRoot is weir with all its commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "Count every API call exactly once, and alert on what you count",
		Long: `Weir measures API traffic: gateways publish events into NATS JetStream, workers fold them into time-bucketed aggregates in
Postgres, and alerts are raised. Each role is a command; "weir demo" and "weir up" run all of them in one process. Commands that
ask find the instance that runs on this machine; elsewhere they take the URL.

Exit codes: 0 done, or stopped by a signal as asked; 1 it failed; 2 wrong usage or configuration; 3 a check did not hold.`,
		Example: `  weir demo
  weir up --dir /var/lib/weir
  weir top
  weir query ApiVersionPerAppAgg --last 1h --per minutes --group-by bucket`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(commands()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	describeCobras(root)
	return root
}

// describeCobras gives examples to the commands that cobra adds.
func describeCobras(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  weir help query"
		case "completion":
			cmd.Example = `  weir completion bash > /etc/bash_completion.d/weir
  weir completion zsh > "${fpath[1]}/_weir"`
			for _, shell := range cmd.Commands() {
				shell.Example = "  weir completion " + shell.Name()
			}
		}
	}
}

// run executes the command that args name and returns the exit code. Its error is printed here, once.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	prepare(root, &started)

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "weir: %s%s\n", config.Redact(err.Error()), config.Hint(cmd, err))
	if !started {
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitCode(err)
}

// prepare readies the commands under cmd. It sets started when one begins its work: an error before that is
// one of usage (an unknown command or flag, the wrong number of arguments). And a command that only
// holds others shows its help, but refuses what is none of them.
func prepare(cmd *cobra.Command, started *bool) {
	for _, sub := range cmd.Commands() {
		prepare(sub, started)
		if work := sub.RunE; work != nil {
			sub.RunE = func(cmd *cobra.Command, args []string) error {
				*started = true
				return work(cmd, args)
			}
		} else if sub.HasSubCommands() {
			sub.Args = refuseUnknown
			sub.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

func refuseUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + near[0] + "?"
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
}

// exitCode is what the error asks for with a method ExitCode, else 1.
func exitCode(err error) int {
	if coded := interface{ ExitCode() int }(nil); errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailure
}
