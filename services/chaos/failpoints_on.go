//go:build failpoints

package chaos

// failpoints: this program has them.
const failpoints = true
