package chaos

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"weir/pkg/child"
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
		return false, nil //nolint:nilerr // then without
	}
	again := exec.Command(program, os.Args[1:]...)
	again.Env = append(os.Environ(), ownMountsVariable+"=1")
	again.Stdout, again.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p, err := child.Start(again, syscall.SIGKILL)
	if err != nil {
		return false, nil //nolint:nilerr // a container that may not unshare: then without
	}
	select {
	case <-cmd.Context().Done():
		p.Signal(syscall.SIGTERM)
		<-p.Done()
	case <-p.Done():
	}
	err = p.Err()
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
