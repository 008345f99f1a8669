package alerts

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/pkg/alert"
	"weir/pkg/query"
	"weir/pkg/store"
)

// shownID is how much of an id a list shows; it is enough for the commands that
// take one.
const shownID = 12

func asJSON(cmd *cobra.Command) bool {
	set, _ := cmd.Flags().GetBool("json")
	return set
}

// printOne writes an alert of which the next is not known.
func printOne(w io.Writer, asJSON bool, a alert.Alert) error {
	if asJSON {
		return printJSON(w, a)
	}
	return query.WriteAligned(w, [][]string{cells(&a)}, make([]bool, len(columns())))
}

func printTable(w io.Writer, alerts []alert.Alert) error {
	lines := [][]string{columns()}
	for i := range alerts {
		lines = append(lines, cells(&alerts[i]))
	}
	return query.WriteAligned(w, lines, make([]bool, len(columns())))
}

func columns() []string {
	return []string{"fired_at", "id", "scope", "state", "severity", "rule", "message"}
}

func cells(a *alert.Alert) []string {
	id := a.ID
	for i := range id { // not within a letter
		if i >= shownID {
			id = id[:i]
			break
		}
	}
	return []string{
		a.FiredAt.UTC().Format(time.RFC3339), id, string(a.Scope), string(a.State), strconv.Itoa(a.Severity), a.Rule, a.Message,
	}
}

// printAlert writes all that is known of an alert, a line for each thing.
func printAlert(cmd *cobra.Command, known *query.Alert) error {
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), *known)
	}
	a := &known.Alert
	var lines [][]string
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, []string{name, value})
		}
	}
	add("id", a.ID)
	add("rule", strings.TrimSuffix(a.Rule+", "+a.Case, ", "))
	add("scope", strings.TrimSuffix(string(a.Scope)+", shard "+a.ShardID, ", shard "))
	add("state", string(a.State))
	add("severity", strconv.Itoa(a.Severity))
	add("message", a.Message)
	add("value", strconv.FormatFloat(a.Value, 'g', -1, 64))
	add("threshold", strconv.FormatFloat(a.Threshold, 'g', -1, 64))
	add("key", strings.Join(pairs(a.Key), " "))
	add("details", strings.Join(pairs(a.Details), " "))
	add("labels", strings.Join(pairs(a.Labels), " "))
	if s := a.Stakeholder; s.User != "" {
		add("concerns", strings.TrimSuffix(fmt.Sprintf("%s %s of %s", s.Role, s.User, s.Tenant), " of "))
	}
	add("fired at", stamp(a.FiredAt))
	add("resolved at", stamp(a.ResolvedAt))
	add("reason", a.Reason)
	if known.Resolution != nil {
		add("resolved by", known.Resolution.ID)
	}
	add("fired as", a.FiringID)
	add("recorded at", stamp(known.RecordedAt))
	add("published", map[bool]string{true: "yes", false: "not yet"}[known.Published])
	if k := known.Ack; k != nil {
		add("acknowledged", strings.TrimSuffix(fmt.Sprintf("%s by %s: %s", stamp(k.At), k.By, k.Comment), ": "))
	}
	for i := range known.Silences {
		s := &known.Silences[i]
		add("silence "+strconv.FormatInt(s.ID, 10), fmt.Sprintf("until %s by %s: %s", stamp(s.EndsAt), s.By, s.Comment))
	}
	for _, n := range known.Notifications {
		add("notifier "+n.Notifier, notified(n))
	}
	return query.WriteAligned(cmd.OutOrStdout(), lines, []bool{false, false})
}

// notified says what a notifier has done.
func notified(n store.Notification) string {
	text := string(n.State)
	if n.Sends > 0 {
		text += fmt.Sprintf(", %d times, last at %s", n.Sends, stamp(n.SentAt))
	}
	if n.Attempts > 0 {
		text += fmt.Sprintf(", %d failed attempts since %s", n.Attempts, stamp(n.FailingSince))
	}
	if n.LastError != "" {
		text += ": " + n.LastError
	}
	return text
}

// stamp is a time to the millisecond where it is that exact, "" where there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// pairs are a map's entries as NAME=VALUE, by name.
func pairs(m map[string]string) (pairs []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, name+"="+m[name])
	}
	return pairs
}

// printLine writes a line in which strangers' texts may be.
func printLine(cmd *cobra.Command, line string) error {
	return query.WriteAligned(cmd.OutOrStdout(), [][]string{{line}}, []bool{false})
}

// printJSON writes a value a line.
func printJSON[T any](w io.Writer, values ...T) error {
	encoder := json.NewEncoder(query.TerminalJSON(w))
	encoder.SetEscapeHTML(false)
	for i := range values {
		if err := encoder.Encode(&values[i]); err != nil {
			return err
		}
	}
	return nil
}
