package bench

import "syscall"

// attributes of a child: it dies with the thread that started it, also if this process is killed, and Ctrl-C at the
// terminal is for this process alone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
