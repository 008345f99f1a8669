//go:build race

package e2e

const (
	// raceEnabled: the tests run with the race detector, and so does the program,
	raceEnabled = true
	// which makes it slower so many times, by a generous guess.
	slower = 5
)
