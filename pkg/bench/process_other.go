//go:build !linux

package bench

import "syscall"

// attributes of a child: Ctrl-C at the terminal is for this process alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
