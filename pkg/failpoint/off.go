//go:build !failpoints

package failpoint

import "fmt"

// Enabled tells whether this build has failpoints.
const Enabled = false

// Set is what happens at which step: in this build, nothing anywhere.
type Set struct{}

// Parse refuses everything but "", for which it returns nil: a process that was
// told to fail, and cannot, would prove nothing.
func Parse(spec string) (*Set, error) {
	if spec != "" {
		return nil, fmt.Errorf("failpoints %q: this build has none; build it with -tags failpoints, and never for production", spec)
	}
	return nil, nil //nolint:nilnil // a nil Set is one in which nothing happens
}

// Hit is called where a step is reached. It returns nil.
func (*Set) Hit(Step) error { return nil }
