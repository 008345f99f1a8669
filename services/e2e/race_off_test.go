//go:build !race

package e2e

// See race_on_test.go.
const (
	raceEnabled = false
	slower      = 1
)
