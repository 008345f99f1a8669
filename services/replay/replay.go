// Package replay is `weir replay`: it publishes access logs as request events, through the same publisher
// that gateways use.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/gateway"
	"weir/pkg/stream"
	"weir/services/complete"
	"weir/services/config"
	"weir/services/progress"
)

const (
	autoShift = "auto"
	// listedLines is how many malformed lines are listed unless all are asked for.
	listedLines = 20
	// nothingPublished ends the error of a file that cannot be read.
	nothingPublished = "Nothing was published: all files are read before the first is begun"
	// maxShift bounds a shift, in days: about 270 years, as far as a time.Duration goes.
	maxShift = 100_000
)

// errInterrupted is the end before the first event.
var errInterrupted = errors.New("interrupted; nothing was published")

// options are the flags of the command that are no settings of Weir.
type options struct {
	format       string
	source       string
	batch        int
	rate         float64
	shift        string
	noProgress   bool
	allMalformed bool
}

// Command is `weir replay`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "replay [flags] FILE...",
		Short: "Publish access logs as request events",
		Long: `Publish access logs, plain or gzip, as request events; "-" is standard input.

Formats: combined (the combined log format of Apache httpd and NGINX), nasa (tab-separated, with
the columns host logname time method url response bytes referer useragent) and jsonl (one request event
per line, a JSON object with requestTimestamp). Each line is an event, or malformed: malformed lines are listed
and counted, and change nothing else. A file whose lines are all malformed is an error. All files are read before
the first event is published: if one of them cannot be read, nothing is published.

An event is known by the content of its file and its place in it. Replaying a file again is therefore
safe: nothing is counted twice, whatever the file is called, compressed or not, with whatever --batch and
--rate. Another --source or shift makes other events (auto is another shift tomorrow); so does a line more in
the file: replay files that are complete.

In the summary, "known" counts messages that the stream had already. It looks back some minutes only; what is
older is published again, and recognised when it is folded.`,
		Example: `  weir replay access.log.1 access.log.2.gz
  zcat access.log.*.gz | weir replay --format combined --shift-days auto -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, o, args) },
	}
	config.Flags(cmd, config.NATS)
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "`format` of the files: combined, nasa or jsonl; by default found out for each file")
	f.StringVar(&o.source, "source", "replay", "`name` of the gateway the events are published for")
	f.IntVar(&o.batch, "batch", 100, "put at most `n` events into a message")
	f.Float64Var(&o.rate, "rate", 0, "publish at most `n` events a second; 0: as fast as the stream takes them")
	f.StringVar(&o.shift, "shift-days", "0", "move all events by `n` days; auto: each file so that its newest event is of the last 24 hours")
	progress.Flag(cmd, &o.noProgress)
	complete.Words(cmd, "format", "combined", "nasa", "jsonl")
	f.BoolVar(&o.allMalformed, "all-malformed", false,
		fmt.Sprintf("list every malformed line, at once and without a progress bar, not only the first %d", listedLines))
	return cmd
}

func run(cmd *cobra.Command, o options, names []string) (err error) {
	cfg, err := config.Load(cmd)
	if err != nil {
		return err
	}
	format, shift, err := o.check()
	if err != nil {
		return config.Problems{err.Error()}
	}
	ctx := cmd.Context()
	logs, err := openLogs(ctx, names, cmd.InOrStdin(), format)
	defer closeLogs(logs)
	if err != nil {
		return err
	}
	conn, err := stream.Connect(ctx, stream.Config{
		URL: string(cfg.NATS.URL), Creds: cfg.NATS.Creds, Name: "weir replay", Log: config.Logger(cfg),
	})
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	// Without the stream publishing would wait for it to come. Other errors do not matter here: a
	// gateway's credential need not be allowed to ask.
	if _, err := conn.State(ctx); errors.Is(err, stream.ErrNotProvisioned) {
		return err
	}
	job := newJob(cmd.OutOrStdout(), cmd.ErrOrStderr(), o, logs)
	return job.run(ctx, conn, logs, shift)
}

// check reads what flags hold as text, and refuses what could only fail later. A nil shift is "auto".
func (o options) check() (gateway.Format, *int, error) {
	format, err := gateway.ParseFormat(o.format)
	if err != nil {
		return "", nil, fmt.Errorf("--format: %w", err)
	}
	if !stream.ValidToken(o.source) {
		return "", nil, fmt.Errorf("--source: %q is no token: 1 to 128 printable ASCII characters without space . * > /", o.source)
	}
	if o.batch < 1 || o.batch > stream.MaxRange {
		return "", nil, fmt.Errorf("--batch: %d should be 1 to %d", o.batch, stream.MaxRange)
	}
	if o.rate < 0 || math.IsNaN(o.rate) {
		return "", nil, fmt.Errorf("--rate: %v should be 0 or more", o.rate)
	}
	if o.shift == autoShift {
		return format, nil, nil
	}
	shift, err := strconv.Atoi(o.shift)
	if err != nil || shift < -maxShift || shift > maxShift {
		return "", nil, fmt.Errorf("--shift-days: %q should be a whole number from -%d to %d, or auto", o.shift, maxShift, maxShift)
	}
	return format, &shift, nil
}

// openLogs opens and reads all logs before the first is published, so that what is wrong with one of them is told
// before anything is done. It returns what it opened also after an error.
func openLogs(ctx context.Context, names []string, stdin io.Reader, format gateway.Format) ([]*gateway.Log, error) {
	var logs []*gateway.Log
	for _, name := range names {
		log, err := gateway.OpenLog(ctx, name, stdin, format)
		otherFormat := (*gateway.NoEventError)(nil)
		switch {
		case err == nil:
			logs = append(logs, log)
		case ctx.Err() != nil:
			return logs, errInterrupted
		case errors.As(err, &otherFormat):
			return logs, fmt.Errorf("%w; is --format right? known formats: combined, nasa, jsonl. %s", err, nothingPublished)
		default:
			return logs, fmt.Errorf("%w. %s", err, nothingPublished)
		}
	}
	return logs, nil
}

func closeLogs(logs []*gateway.Log) {
	for _, log := range logs {
		_ = log.Close() // only read from
	}
}

// job is one run of the command.
type job struct {
	stdout, stderr io.Writer
	options        options
	bar            *progress.Bar
	waiting        []string // malformed lines that are listed when the bar is gone
	malformed      int64
}

func newJob(stdout, stderr io.Writer, o options, logs []*gateway.Log) *job {
	var events int64
	for _, log := range logs {
		events += log.Events
	}
	return &job{stdout: stdout, stderr: stderr, options: o, bar: progress.New(stderr, o.noProgress || o.allMalformed, events)}
}

// run replays the logs one after another, up to the first error, and prints the summary in any case.
func (j *job) run(ctx context.Context, conn *stream.Conn, logs []*gateway.Log, shift *int) error {
	shifts := j.announce(logs, shift)
	j.bar.Start()
	var rows []row
	var err error
	for i := 0; i < len(logs) && err == nil; i++ {
		var result gateway.ReplayResult
		result, err = gateway.Replay(ctx, conn, logs[i], j.config(logs[i], shifts[i]))
		rows = append(rows, row{file: logs[i].Name, lines: logs[i].Lines, ReplayResult: result})
	}
	j.bar.Finish()
	j.listMalformed()
	for _, r := range rows {
		if r.Replaced > 0 {
			j.say("%s: %d lines held bytes that are no UTF-8 text; they became U+FFFD", r.file, r.Replaced)
		}
	}
	printErr := printSummary(j.stdout, rows)
	if err != nil {
		return j.incomplete(ctx, err, logs, rows)
	}
	return printErr
}

// announce says what will be published, and returns by how many days each log is shifted.
func (j *job) announce(logs []*gateway.Log, shift *int) []int {
	now := time.Now()
	shifts := make([]int, len(logs))
	for i, log := range logs {
		if shift != nil {
			shifts[i] = *shift
		} else {
			shifts[i] = log.AutoShift(now)
		}
		if log.Events == 0 {
			j.say("%s: the file is empty; there is nothing to publish", log.Name)
			continue
		}
		j.say("%s: %s, %d events, shifted by %d days, source %s, epoch %s",
			log.Name, log.Format, log.Events, shifts[i], j.options.source, log.Epoch(shifts[i]))
	}
	return shifts
}

// incomplete is the error of a replay that err has ended: how far it has come, and what completes it. The rows
// are those of the logs that were begun; the last is the one that failed.
func (j *job) incomplete(ctx context.Context, err error, logs []*gateway.Log, rows []row) error {
	var events, stored int64
	for _, log := range logs {
		events += log.Events
	}
	for _, r := range rows {
		stored += r.Published
	}
	far := fmt.Sprintf("the stream has confirmed %d of %d events", stored, events)
	if len(logs) > 1 {
		far += fmt.Sprintf(": %d of %d files whole, then a part of %s", len(rows)-1, len(logs), rows[len(rows)-1].file)
	}
	again := "Running the same command again"
	if j.options.shift == autoShift {
		again += ", with --shift-days as printed above and not auto,"
	}
	again += " completes it, and counts nothing twice"
	switch {
	case ctx.Err() != nil: // the cause is no news then
		return fmt.Errorf("interrupted; %s. %s", far, again)
	case errors.Is(err, gateway.ErrChanged):
		return fmt.Errorf("%w; %s. The file as it is now is another one, whose events would all count anew", err, far)
	}
	return fmt.Errorf("%w; %s. %s", err, far, again)
}

func (j *job) config(log *gateway.Log, shift int) gateway.ReplayConfig {
	return gateway.ReplayConfig{
		Source:    j.options.source,
		Batch:     j.options.batch,
		Rate:      j.options.rate,
		ShiftDays: shift,
		OnMalformed: func(line gateway.Line) {
			j.malformed++
			text := fmt.Sprintf("%s:%d: malformed: %s", log.Name, line.Number, line.Malformed)
			switch {
			case j.options.allMalformed:
				j.say("%s", text)
			case len(j.waiting) < listedLines:
				j.waiting = append(j.waiting, text)
			}
		},
		OnAck: j.bar.Add,
	}
}

func (j *job) listMalformed() {
	for _, text := range j.waiting {
		j.say("%s", text)
	}
	if more := j.malformed - int64(len(j.waiting)); more > 0 && !j.options.allMalformed {
		j.say("and %d more malformed lines; --all-malformed lists them all", more)
	}
}

// say writes a line to standard error; what cannot be written there cannot be told at all.
func (j *job) say(format string, args ...any) { _, _ = fmt.Fprintf(j.stderr, format+"\n", args...) }
