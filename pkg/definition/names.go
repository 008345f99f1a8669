package definition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// What names may look like. Streams and rules are tokens of NATS subjects;
// aggregations and columns become names in Postgres, which leave room there
// for what the store adds.
var (
	streamName      = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
	attributeName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,49}$`)
	aggregationName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,39}$`)
	ruleName        = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
)

const maxRuleName = 40

// keywords are words of the expression language that cannot be attributes.
func keywords() []string {
	return []string{
		"true", "false", "nil", "not", "in", "and", "or", "matches", "contains",
		"startsWith", "endsWith", "let", "if", "else",
	}
}

// reservedColumn reports whether the tables have a column of that name
// already.
func reservedColumn(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains([]string{"bucket", "shard_id", "batch_no"}, name) || strings.HasPrefix(name, "weir_")
}

// systemColumn reports whether Postgres has a column of that name in every
// table, so that it refuses another.
func systemColumn(name string) bool {
	return slices.Contains([]string{"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}, strings.ToLower(name))
}

// suggest is `; did you mean "…"?` with the known name nearest to name, or the
// list of them where none is near and they are few.
func suggest(name string, known []string) string {
	best := nearest(name, known)
	switch {
	case best != "":
		return fmt.Sprintf("; did you mean %q?", best)
	case len(known) > 0 && len(known) <= 12:
		return "; known are " + strings.Join(known, ", ")
	}
	return ""
}

// nearest returns the known name that a misspelt one most likely stands for, "" where none is near.
func nearest(name string, known []string) string {
	best, least := "", 2 // a short name is near to everything
	if len(name) >= 5 {
		least = max(2, len(name)/3) + 1
	}
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < min(least, len(name)) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of single-character edits from a to b; texts longer
// than any name are never near.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			step := diagonal
			if a[i] != b[j] {
				step++
			}
			row[j+1] = min(step, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
