// Package audit is `weir audit`: the proof that every event is counted once,
// on the terminal.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"weir/pkg/audit"
	"weir/pkg/query"
	"weir/services/config"
	"weir/services/version"
	"weir/services/wire"
)

type options struct {
	asJSON, wait, drill, certificates bool
	accept                            int64
}

// Command is `weir audit`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove that every event is counted once",
		Long: `Verify everything, while the roles run: that the stream has what publishers were told it has, that the ledger has what
the stream has, and that the rows of every aggregation and granularity add up to what was folded, in number and by checksums.
Print the proof, and as the last line its result. The exit code is 3 if an event is not accounted for, or counted twice;
messages in flight are reported and count as neither. With --wait it waits, a minute at most, for what the stream has when it begins
to be folded, and for repairs; what comes later is not waited for. What then is still in flight makes the exit code 3 too.
"weir auditor" does the same all the time, and repairs.`,
		Example: `  weir audit
  weir audit --wait --json
  weir audit --accept 7        # finding 7 is known, and nothing can be done
  weir audit --certificates`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	f.BoolVar(&o.wait, "wait", false, "wait until all that the stream has now is folded and nothing is left to repair, a minute at most")
	f.BoolVar(&o.drill, "drill", false, "only plant faults in tables of the audit's own, and see whether it finds them")
	f.BoolVar(&o.certificates, "certificates", false, "only list the certificates, and verify their chain")
	f.Int64Var(&o.accept, "accept", 0, "say of the finding with this `number` that it is known: it does not count any more, unless it changes")
	cmd.MarkFlagsMutuallyExclusive("drill", "certificates", "accept")
	config.Flags(cmd, config.NATS, config.Postgres)
	return cmd
}

// errResidue ends the audit with exit code 3.
type errResidue struct{ what string }

func (e errResidue) Error() string { return e.what }

// ExitCode tells what does not add up from an audit that could not be made.
func (errResidue) ExitCode() int { return 3 }

func run(cmd *cobra.Command, o options) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	pool, err := wire.Pool(ctx, cfg, "audit")
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	conn, err := wire.Stream(ctx, cfg, "audit", config.Logger(cfg))
	if err != nil {
		return err
	}
	defer conn.Close()
	auditor := audit.New(pool, conn, audit.Config{Version: version.String()})
	switch {
	case o.drill:
		return drill(cmd, auditor)
	case o.certificates:
		return certificates(cmd, auditor, o.asJSON)
	case cmd.Flags().Changed("accept"):
		return accept(cmd, auditor, o.accept)
	}
	report, late := Full(ctx, auditor, o.wait)
	if report == nil {
		return wire.Explain(late)
	}
	if o.asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			query.AuditReport

			GaveUp bool `json:"gave_up"` // --wait was not long enough
		}{query.NewAuditReport(report), errors.As(late, &errResidue{})})
	} else {
		err = show(cmd.OutOrStdout(), report)
	}
	switch {
	case err != nil:
		return err
	case !report.Green():
		what := "the audit does not add up: " + report.Sentence()
		if late != nil {
			what = late.Error() + "; " + what
		}
		return errResidue{what}
	}
	return wire.Explain(late)
}

func accept(cmd *cobra.Command, auditor *audit.Auditor, id int64) error {
	detail, err := auditor.Accept(cmd.Context(), id)
	if err != nil {
		return wire.Explain(err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "finding %d is accepted, and does not count any more, unless it changes: %s\n", id, detail)
	return err
}

func drill(cmd *cobra.Command, auditor *audit.Auditor) error {
	problem, err := auditor.Drill(cmd.Context())
	if err != nil {
		return wire.Explain(err)
	}
	if problem != "" {
		return errResidue{"the auditor itself is broken: " + problem}
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "every fault that was planted was found, and nothing else")
	return err
}

func certificates(cmd *cobra.Command, auditor *audit.Auditor, asJSON bool) error {
	out := cmd.OutOrStdout()
	n := int64(0)
	problem, err := auditor.Certificates(cmd.Context(), func(c *audit.Certificate, hash, wrong string) {
		n++
		if asJSON {
			_ = json.NewEncoder(out).Encode(struct { // standard output that is gone shows when the last line is written
				*audit.Certificate

				Hash    string `json:"hash"`
				Problem string `json:"problem,omitempty"`
			}{c, hash, wrong})
			return
		}
		state := "all accounted for"
		if len(c.Residue) > 0 {
			state = audit.Plural(int64(len(c.Residue)), "finding", "findings")
		}
		if wrong != "" {
			hash += "  WRONG: " + wrong
		}
		fmt.Fprintf(out, "%5d  %s  %15s events  %-17s  %s\n", c.Number, c.Hour.Format("2006-01-02 15:04"), audit.Grouped(c.Balance.Events), state, hash)
	})
	switch {
	case err != nil:
		return wire.Explain(err)
	case problem != "":
		return errResidue{problem}
	case asJSON:
		return nil
	case n == 0:
		_, err = fmt.Fprintln(out, "there are no certificates yet: the auditor writes one when an hour is over and verified")
	default:
		_, err = fmt.Fprintf(out, "%s, each with the hash of the one before; keep the last hash elsewhere to be able to tell later\n", audit.Plural(n, "certificate", "certificates"))
	}
	return err
}
