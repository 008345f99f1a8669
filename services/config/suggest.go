package config

import (
	"fmt"
	"strings"
)

// Suggest is "; did you mean …?" with the known name that is meant by name, as far as one can tell:
// one that ends in it (shard_id: worker.shard_id), else the nearest by letters, else nothing.
func Suggest(name string, known []string) string {
	tail := strings.TrimPrefix(name, envPrefix)
	tail = tail[strings.LastIndex(tail, ".")+1:]
	best, least := "", max(2, len(name)/4)+1
	if len(name) < 5 {
		least = 2 // of so few letters two changes make any other word
	}
	for _, k := range known {
		d := distance(name, k)
		if strings.HasSuffix(k, "."+tail) || strings.HasSuffix(k, "_"+tail) {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
