package replay

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"weir/pkg/gateway"
)

// row is the summary of one file.
type row struct {
	file  string
	lines int64
	gateway.ReplayResult
}

// printSummary writes a line for each file, and one for all of them. The columns: lines of the file; events
// published, which the stream has now; messages they are in; messages of these that the stream knew
// already; malformed lines; time; events a second.
func printSummary(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	total := row{file: "total"}
	lines := []string{"lines\tevents\tmessages\tknown\tmalformed\ttime\tevents/s\t  file\n"}
	for _, r := range rows {
		lines = append(lines, r.String())
		total.lines += r.lines
		total.Published += r.Published
		total.Messages += r.Messages
		total.Known += r.Known
		total.Malformed += r.Malformed
		total.Elapsed += r.Elapsed
	}
	for _, line := range append(lines, total.String()) {
		if _, err := io.WriteString(table, line); err != nil {
			return fmt.Errorf("print the summary: %w", err)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	return nil
}

// String is the row with its columns separated by tabs.
func (r row) String() string {
	perSecond := 0.0
	if r.Elapsed > 0 {
		perSecond = float64(r.Published) / r.Elapsed.Seconds()
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%s\t%.0f\t  %s\n",
		r.lines, r.Published, r.Messages, r.Known, r.Malformed, r.Elapsed.Round(time.Millisecond), perSecond, r.file)
}
