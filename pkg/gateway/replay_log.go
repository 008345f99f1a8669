package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

const (
	// detectLines and detectBytes bound what is read to find out a log's format.
	detectLines = 100
	detectBytes = 1 << 20

	day = 24 * time.Hour
)

// ErrChanged says that a log's content is no longer what it was when it was opened.
var ErrChanged = errors.New("the file was changed while it was replayed")

// NoEventError says that all lines of a log are malformed: it surely has some other format.
type NoEventError struct {
	Format Format // in which it was read
	Lines  int64  // malformed
	First  Line   // of these
}

func (e *NoEventError) Error() string {
	return fmt.Sprintf("not one of %d lines is a %s line (line %d: %s)", e.Lines, e.Format, e.First.Number, e.First.Malformed)
}

// Log is a log file that can be read as often as needed. Its content was read once when it was opened,
// because its identity is made of all of it. A log that still grows is another log every time:
// replay files that are complete.
type Log struct {
	Name   string // as given; "stdin" for "-"
	Format Format // "" for a file without lines

	Lines     int64 // all, with header and empty ones
	Events    int64
	Malformed int64
	// Newest is the time of the newest event; zero where there is none.
	Newest time.Time

	file   *os.File
	gzip   bool
	size   int64             // of the content, uncompressed, in bytes
	digest [sha256.Size]byte // of the content, uncompressed
}

// OpenLog opens a log and reads it once. The name "-" stands for stdin, which is first copied to a
// temporary file, as is everything else that can be read only once. Gzip is recognised by
// content. The empty format means: find out. A log whose lines are all malformed is a *[NoEventError];
// one without lines is no error. The caller closes the log.
func OpenLog(ctx context.Context, name string, stdin io.Reader, format Format) (*Log, error) {
	log := &Log{Name: name, Format: format}
	if err := log.open(stdin); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := log.survey(ctx); err != nil {
		_ = log.Close() // the survey's error says more
		return nil, fmt.Errorf("read log %s: %w", log.Name, log.explain(err))
	}
	return log, nil
}

// Close releases the file.
func (l *Log) Close() error { return l.file.Close() }

func (l *Log) open(stdin io.Reader) error {
	if l.Name == "-" {
		l.Name = "stdin"
		return l.spool(stdin)
	}
	file, err := os.Open(l.Name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		l.file = file
		return nil
	}
	defer func() { _ = file.Close() }() // only read from
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory: name its files", l.Name)
	}
	return l.spool(file)
}

// spool copies in to a temporary file that has no name, so that it goes away with the process.
func (l *Log) spool(in io.Reader) error {
	file, err := os.CreateTemp("", "weir-replay-*")
	if err != nil {
		return fmt.Errorf("copy %s: %w", l.Name, err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return fmt.Errorf("copy %s: %w", l.Name, err)
	}
	if _, err := io.Copy(file, in); err != nil {
		_ = file.Close()
		return fmt.Errorf("copy %s: %w", l.Name, err)
	}
	l.file = file
	return nil
}

// content is the uncompressed content from its start. Only one of its readers may be in use.
func (l *Log) content() (io.Reader, error) {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if !l.gzip {
		return l.file, nil
	}
	return gzip.NewReader(l.file)
}

// explain says what an error in the content means for the file.
func (l *Log) explain(err error) error {
	damaged := flate.CorruptInputError(0)
	switch {
	case !l.gzip:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("its gzip data is cut off: %w", err)
	case errors.Is(err, gzip.ErrHeader):
		return errors.New("not all of it is gzip data, though it begins like it")
	case errors.Is(err, gzip.ErrChecksum), errors.As(err, &damaged):
		return fmt.Errorf("its gzip data is damaged (%w)", err)
	}
	return err
}

// survey reads the content once, for everything that must be known before the first event is published.
func (l *Log) survey(ctx context.Context) error {
	var magic [2]byte
	n, err := l.file.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	l.gzip = n == len(magic) && magic == [2]byte{0x1f, 0x8b}
	if l.Format == "" {
		if err := l.findFormat(); err != nil {
			return err
		}
	}
	content, err := l.content()
	if err != nil {
		return err
	}
	sum := &digester{in: content, hash: sha256.New()}
	reader := newLineReader(sum)
	var first Line // that is malformed
	for line, err := range reader.lines(l.Format, "survey", 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if line.Malformed != "" {
			if l.Malformed == 0 {
				first = line
			}
			l.Malformed++
			continue
		}
		l.Events++
		if line.Time.After(l.Newest) {
			l.Newest = line.Time
		}
	}
	l.Lines, l.size, l.digest = reader.number, sum.size, [sha256.Size]byte(sum.hash.Sum(nil))
	if l.Events == 0 && l.Malformed > 0 {
		return &NoEventError{Format: l.Format, Lines: l.Malformed, First: first}
	}
	return nil
}

func (l *Log) findFormat() error {
	content, err := l.content()
	if err != nil {
		return err
	}
	reader := newLineReader(io.LimitReader(content, detectBytes))
	var lines [][]byte
	for len(lines) < detectLines {
		line, tooLong, err := reader.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !tooLong && len(line) > 0 {
			lines = append(lines, bytes.Clone(line))
		}
	}
	if len(lines) == 0 {
		return nil // without lines there are no events in any format
	}
	l.Format, err = detect(lines)
	return err
}

// AutoShift is the whole number of days that brings the newest event to today or yesterday, and not
// after now; 0 where there is no event.
func (l *Log) AutoShift(now time.Time) int {
	if l.Newest.IsZero() {
		return 0
	}
	age := now.Sub(l.Newest)
	days := age / day
	if age < 0 && age%day != 0 {
		days-- // towards the past, not towards zero
	}
	return int(days)
}

// Epoch is the publisher epoch of the log's events. It depends on the content, the format it is read in,
// and the shift, and on nothing else: neither the file's name, nor its compression, nor how the events are cut
// into messages. Event n of the epoch is the n-th line of the log that is an event.
func (l *Log) Epoch(shiftDays int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%x\n%s\n%d\n", l.Format.identityVersion(), l.digest, l.Format, shiftDays))
	return hex.EncodeToString(sum[:16])
}

// Read reads the log from its start, one [Line] after another; source becomes the events' apiHostname. A
// second Read ends the one before. Where the content is not what it was, the sequence ends in ErrChanged.
func (l *Log) Read(source string, shiftDays int) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		content, err := l.content()
		if err != nil {
			yield(Line{}, l.explain(err))
			return
		}
		sum := &digester{in: io.LimitReader(content, l.size), hash: sha256.New()}
		for line, err := range newLineReader(sum).lines(l.Format, source, time.Duration(shiftDays)*day) {
			if err != nil {
				yield(Line{}, l.explain(err))
				return
			}
			if !yield(line, nil) {
				return
			}
		}
		if sum.size != l.size || [sha256.Size]byte(sum.hash.Sum(nil)) != l.digest {
			yield(Line{}, ErrChanged)
		}
	}
}

// digester is a reader that hashes and counts what passes.
type digester struct {
	in   io.Reader
	hash hash.Hash
	size int64
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.in.Read(p)
	d.hash.Write(p[:n])
	d.size += int64(n)
	return n, err
}
