package chaos

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

// ownMountsVariable tells the second of two processes that it is that.
const ownMountsVariable = "WEIR_CHAOS_MOUNTS"

// ownMounts reports whether this process has mounts of its own, which end with it.
func ownMounts() bool { return os.Getenv(ownMountsVariable) != "" }

// inOwnMounts runs the command again in a process with mounts of its own, where a fault may need them and the
// user may do that; else it says that it has not.
func inOwnMounts(cmd *cobra.Command, faults []string) (done bool, err error) {
	if ownMounts() || os.Geteuid() != 0 || !slices.Contains(faults, "all") && !slices.Contains(faults, "disk-full") {
		return false, nil
	}
	program, err := os.Executable()
	if err != nil {
		return false, nil // then without
	}
	again := exec.Command(program, os.Args[1:]...)
	again.Env = append(os.Environ(), ownMountsVariable+"=1")
	again.Stdout, again.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	runtime.LockOSThread() // the death signal comes when the starting thread ends
	defer runtime.UnlockOSThread()
	if err := again.Start(); err != nil {
		return false, nil // a container that may not unshare: then without
	}
	ended := make(chan error, 1)
	go func() { ended <- again.Wait() }()
	select {
	case <-cmd.Context().Done():
		_ = again.Process.Signal(syscall.SIGTERM)
		err = <-ended
	case err = <-ended:
	}
	exit := (*exec.ExitError)(nil)
	if errors.As(err, &exit) {
		return true, childFailed{exit.ExitCode()}
	}
	return true, err
}

// childFailed passes on how the process with mounts of its own ended; it has said why.
type childFailed struct{ code int }

func (childFailed) Error() string   { return "chaos: the run failed, see above" }
func (c childFailed) ExitCode() int { return c.code }
