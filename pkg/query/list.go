package query

import (
	"bytes"
	"net/http"
	"time"

	"weir/pkg/alert"
)

// listing is how a list of things is written: as JSON, an object whose one member
// has them; as NDJSON, each the same object on a line of its own; and as CSV, the
// columns of each.
type listing[T any] struct {
	name    string // of the member, and of the file
	columns []string
	cells   func(T) []any
}

// send sends the list.
func (l listing[T]) send(s *Server, w http.ResponseWriter, r *http.Request, as format, items []T) error {
	w.Header().Add("Vary", "Accept")
	if as == formatJSON {
		return s.json(w, r, map[string]any{l.name: append([]T{}, items...)})
	}
	var out bytes.Buffer
	if err := l.write(&out, as, items); err != nil {
		return err
	}
	w.Header().Set("Content-Type", as.contentType())
	w.Header().Set("Content-Disposition", `attachment; filename="`+l.name+"."+string(as)+`"`)
	if _, err := out.WriteTo(w); err != nil && r.Context().Err() == nil {
		s.OnError(r.URL.Path, err)
	}
	return nil
}

func (l listing[T]) write(out *bytes.Buffer, as format, items []T) error {
	if as == formatCSV {
		table := as.to(out)
		if err := table.begin(l.columns); err != nil {
			return err
		}
		for _, item := range items {
			if err := table.row(l.cells(item)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		if err := appendJSON(out, item); err != nil {
			return err
		}
		out.WriteByte('\n')
	}
	return nil
}

func alertListing() listing[alert.Alert] {
	return listing[alert.Alert]{
		name: "alerts",
		columns: []string{
			"fired_at", "state", "severity", "rule", "case", "scope", "key", "message", "value", "threshold",
			"resolved_at", "reason", "shard_id", "id", "firing_id",
		},
		cells: func(a alert.Alert) []any {
			return []any{
				moment(a.FiredAt), string(a.State), int64(a.Severity), a.Rule, absent(a.Case), string(a.Scope), object(a.Key), a.Message, a.Value, a.Threshold,
				moment(a.ResolvedAt), absent(a.Reason), absent(a.ShardID), a.ID, absent(a.FiringID),
			}
		},
	}
}

func deadLetterListing() listing[DeadLetter] {
	return listing[DeadLetter]{
		name: "dead_letters",
		columns: []string{
			"id", "state", "reason", "source", "subject", "msg_id", "content_type", "content_encoding", "sequence", "offset", "events", "stored_at", "at",
			"shard_id", "aggregation", "settled_at", "replays", "split_from", "size", "payload", "payload_base64",
		},
		cells: func(d DeadLetter) []any {
			return []any{
				d.ID, d.State, d.Reason, d.Source, d.Subject, absent(d.MsgID), absent(d.ContentType), absent(d.ContentEncoding),
				int64(d.Sequence), int64(d.Offset), positive(d.Events), moment(d.StoredAt), moment(d.At), //nolint:gosec // no stream counts to 2^63
				d.ShardID, absent(d.Aggregation), moment(d.SettledAt), int64(d.Replays), positive(d.SplitFrom), int64(d.Size), absent(d.Payload), absent(d.PayloadBase64),
			}
		},
	}
}

// moment, absent and positive are cells that JSON leaves out where there is nothing.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// object is a JSON object in a cell.
func object(of map[string]string) string {
	var text bytes.Buffer
	_ = appendJSON(&text, of) // of texts: it cannot fail
	return text.String()
}

func absent(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func positive[N int | int64](n N) any {
	if n <= 0 {
		return nil
	}
	return int64(n)
}
