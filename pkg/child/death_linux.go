package child

import "syscall"

// dieWithParent makes the kernel send the signal to the child when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }
