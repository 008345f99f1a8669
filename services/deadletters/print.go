package deadletters

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
)

// Most characters of what strangers wrote, where many letters are shown; "show" has
// all of it.
const (
	shownReason  = 300
	shownSubject = 80 // its column is as wide as the longest
)

// cut is the text, or its beginning and a mark.
func cut(text string, most int) string {
	for i := range text {
		if most--; most < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

func printList(cmd *cobra.Command, letters []query.DeadLetter) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), letters...)
	}
	lines := [][]string{{"id", "state", "stored_at", "subject", "sequence", "offset", "reason"}}
	for _, l := range letters {
		lines = append(lines, []string{
			strconv.FormatInt(l.ID, 10), l.State, l.StoredAt.Format(time.RFC3339), cut(l.Subject, shownSubject),
			strconv.FormatUint(l.Sequence, 10), offset(l), cut(l.Reason, shownReason),
		})
	}
	return query.WriteAligned(cmd.OutOrStdout(), lines, []bool{true, false, false, false, true, true, false})
}

func printOne(cmd *cobra.Command, l query.DeadLetter) error {
	out := cmd.OutOrStdout()
	if asJSON(cmd) {
		return printJSON(out, l)
	}
	lines := [][]string{
		{"id", strconv.FormatInt(l.ID, 10)},
		{"state", l.State},
		{"reason", l.Reason},
		{"subject", l.Subject},
		{"source", l.Source},
		{"message id", l.MsgID},
		{"sequence", strconv.FormatUint(l.Sequence, 10)},
		{"offset", offset(l)},
		{"stored at", l.StoredAt.Format(time.RFC3339Nano)},
		{"written at", l.At.Format(time.RFC3339Nano)},
		{"by shard", l.ShardID},
		{"replays", strconv.Itoa(l.Replays)},
	}
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, []string{name, value})
		}
	}
	if !l.SettledAt.IsZero() {
		add(l.State+" at", l.SettledAt.Format(time.RFC3339Nano))
	}
	if l.SplitFrom != 0 {
		add("split from", fmt.Sprintf("#%d, the letter of its whole message", l.SplitFrom))
	}
	add("lacks only", l.Aggregation)
	add("content type", l.ContentType)
	add("encoding", l.ContentEncoding)
	add("size", strconv.Itoa(l.Size)+" bytes")
	err := query.WriteAligned(out, lines, []bool{false, false})
	if err != nil {
		return err
	}
	switch {
	case l.State == string(store.DeadLetterDropped):
		_, err = fmt.Fprint(out, "\nwhat was sent is not kept\n")
	case l.PayloadBase64 != "":
		_, err = fmt.Fprintf(out, "\nas base64:\n%s\n", l.PayloadBase64)
	default:
		_, err = fmt.Fprintf(out, "\n%s\n", visible(l.Payload))
	}
	return err
}

// visible is a text as it is, so that it can be pasted elsewhere, but for what a
// terminal would obey or not show: that is escaped as in JSON, where it then
// means the same. Line feeds and tabs stay.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// offset is the place of the event in its message.
func offset(l query.DeadLetter) string {
	if l.Offset < 0 {
		return "all"
	}
	return strconv.Itoa(l.Offset)
}

func asJSON(cmd *cobra.Command) bool {
	set, _ := cmd.Flags().GetBool("json")
	return set
}

func printJSON(w io.Writer, letters ...query.DeadLetter) error {
	encoder := json.NewEncoder(query.TerminalJSON(w))
	encoder.SetEscapeHTML(false)
	for i := range letters {
		if err := encoder.Encode(&letters[i]); err != nil {
			return err
		}
	}
	return nil
}
