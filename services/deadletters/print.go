package deadletters

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/query"
	"weir/pkg/store"
)

func printList(cmd *cobra.Command, letters []query.DeadLetter) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), letters...)
	}
	lines := [][]string{{"id", "state", "stored_at", "subject", "sequence", "offset", "reason"}}
	for _, l := range letters {
		lines = append(lines, []string{
			strconv.FormatInt(l.ID, 10), l.State, l.StoredAt.Format(time.RFC3339), l.Subject,
			strconv.FormatUint(l.Sequence, 10), offset(l), l.Reason,
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
		_, err = fmt.Fprintf(out, "\n%q\n", l.Payload)
	}
	return err
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
