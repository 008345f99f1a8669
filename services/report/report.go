// Package report is `weir report`: the usage of a month, by API, version and application, as WSO2 API-M Analytics
// reports it: as text, CSV, or a page that prints well.
package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/services/ask"
	"weir/services/complete"
	"weir/services/config"
)

type options struct{ month, format, output string }

const (
	formatText = "text"
	formatCSV  = "csv"
	formatHTML = "html"
)

// Command is `weir report`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "report --month 2026-11",
		Short: "Report the usage of a month, as text, CSV or a page to print",
		Long: `Report a month: the calls of each API, version and application, with errors, faults and throttled calls; the totals; the APIs,
applications and users with most calls; and the calls of each day, as long as days are kept. Calls are those of ApiUserPerAppAgg,
the others those of ApiErrorAnalysisAgg. A month is one of the aggregation's time zone. While it is not over, or not all of its events
are counted yet, the report says so.

html is one file without links to others, made to be printed: pages of A4 or Letter with the titles of the table on each; a
browser saves it as PDF. csv has one line for each API, version and application. text has the same for people.`,
		Example: `  weir report --month 2026-11
  weir report --month 2026-10 --output october.html
  weir report --month 2026-10 --format csv --output october.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o, time.Now()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.month, "month", "", "the `month`, as 2026-11; by default the one that was over last")
	f.StringVar(&o.format, "format", "", "`text`, csv or html; by default as the name of --output ends, else text")
	f.StringVar(&o.output, "output", "", "write to this `file`; by default to standard output")
	ask.Flags(cmd)
	complete.Words(cmd, "format", formatText, formatCSV, formatHTML)
	return cmd
}

func run(cmd *cobra.Command, o options, now time.Time) error {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	month, err := o.check(now)
	if err != nil {
		return config.Problems{err.Error()}
	}
	asker, err := ask.New(cmd, cfg)
	if err != nil {
		return err
	}
	report, err := fetch(cmd.Context(), asker, month, now)
	if err != nil {
		return err
	}
	write := map[string]func(io.Writer) error{formatText: report.writeText, formatCSV: report.writeCSV, formatHTML: report.writeHTML}[o.format]
	if o.output == "" {
		return write(cmd.OutOrStdout())
	}
	return replace(o.output, write)
}

// check fills in what is not given, and returns the first day of the month, in UTC.
func (o *options) check(now time.Time) (time.Time, error) {
	if o.format == "" {
		o.format = formatText
		switch strings.ToLower(filepath.Ext(o.output)) {
		case ".html", ".htm":
			o.format = formatHTML
		case ".csv":
			o.format = formatCSV
		}
	}
	if !slices.Contains([]string{formatText, formatCSV, formatHTML}, o.format) {
		return time.Time{}, fmt.Errorf("--format: %q should be text, csv or html", o.format)
	}
	if o.month == "" {
		o.month = time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC).Format("2006-01")
	}
	month, err := time.Parse("2006-01", o.month)
	if err != nil {
		return month, fmt.Errorf("--month: %q should be a month, as 2026-11", o.month)
	}
	if month.After(now.Add(14 * time.Hour)) { // the zone that is first
		return month, fmt.Errorf("--month: %s has not begun yet", o.month)
	}
	return month, nil
}

// replace writes a file as a whole: if that fails, what was there stays.
func replace(path string, write func(io.Writer) error) (err error) {
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part.Name()) // err says more
		}
	}()
	err = errors.Join(write(part), part.Chmod(0o644), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
