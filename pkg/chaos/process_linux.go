package chaos

import "syscall"

// attributes of a child: it dies with the thread that started it, also if the harness is killed, and Ctrl-C at the
// terminal is for the harness alone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
