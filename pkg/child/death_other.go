//go:build !linux

package child

import "syscall"

// dieWithParent has no counterpart here.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
