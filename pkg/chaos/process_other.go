//go:build !linux

package chaos

import "syscall"

// attributes of a child: Ctrl-C at the terminal is for the harness alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
