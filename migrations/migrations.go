// Package migrations holds Weir's own tables as forward-only SQL, run by
// `weir apply` under an advisory lock. Tables of aggregations are not here:
// they follow from the definitions.
package migrations

import "embed"

// Files are the migrations, in goose's format.
//
//go:embed *.sql
var Files embed.FS
