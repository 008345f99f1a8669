//go:build !linux

package chaos

// mountDisks has nothing to mount: disk-full is not drawn here.
func (r *run) mountDisks() (unmount func(), err error) { return func() {}, nil }
