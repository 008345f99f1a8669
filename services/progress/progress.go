// Package progress shows how far long work is, on a terminal.
package progress

import (
	"io"

	"github.com/cheggaaa/pb/v3"
	"github.com/spf13/cobra"

	"weir/services/terminal"
)

// Flag gives cmd the flag with which people do without a bar.
func Flag(cmd *cobra.Command, off *bool) {
	cmd.Flags().BoolVar(off, "no-progress", false, "show no progress bar; where standard error is no terminal, there is none")
}

// Bar is a progress bar on standard error, or nothing where nobody would see it.
type Bar struct {
	out io.Writer
	bar *pb.ProgressBar // nil: not shown
}

// New returns a bar for so much work; it is shown from Start on, if standard error is a terminal and off is not set.
func New(stderr io.Writer, off bool, total int64) *Bar {
	b := &Bar{out: stderr}
	if _, _, ok := terminal.Size(stderr); ok && !off {
		b.bar = pb.Full.New(0).SetTotal(total).SetWriter(stderr)
	}
	return b
}

// Shown reports whether there is anything to see.
func (b *Bar) Shown() bool { return b.bar != nil }

// Start shows the bar.
func (b *Bar) Start() {
	if b.bar != nil {
		b.bar.Start()
	}
}

// Add says that so much more is done.
func (b *Bar) Add(n int) {
	if b.bar != nil {
		b.bar.Add(n)
	}
}

// Set says how much is done, of how much.
func (b *Bar) Set(done, total int64) {
	if b.bar != nil {
		b.bar.SetTotal(total).SetCurrent(done)
	}
}

// Write writes whole lines, above the bar.
func (b *Bar) Write(lines []byte) (int, error) {
	if b.bar == nil {
		return b.out.Write(lines)
	}
	if _, err := b.out.Write(append([]byte("\r\x1b[K"), lines...)); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// Finish leaves the bar as it is, and the cursor below it.
func (b *Bar) Finish() {
	if b.bar != nil {
		b.bar.Finish()
	}
}
