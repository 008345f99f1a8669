//go:build !failpoints

package chaos

// failpoints: this program has none.
const failpoints = false
