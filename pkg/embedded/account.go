package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is the user that PostgreSQL runs as. PostgreSQL refuses to run as root, so where Weir is root it
// is another one; the zero value is the user of this process.
type account struct {
	name string
	cred *syscall.Credential
}

// serverAccount is the owner of dir if that is not root (an existing cluster keeps its owner), else
// postgres, else nobody.
func serverAccount(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
			u, err := user.LookupId(strconv.Itoa(int(uid)))
			if err != nil {
				return account{}, fmt.Errorf("find the owner of %s: %w", dir, err)
			}
			return accountOf(u)
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

func accountOf(u *user.User) (account, error) {
	ids := []string{u.Uid, u.Gid}
	groups, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("find the groups of user %s: %w", u.Username, err)
	}
	var numbers []uint32
	for _, id := range append(ids, groups...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("id %q of user %s is not a number", id, u.Username)
		}
		numbers = append(numbers, uint32(n))
	}
	return account{
		name: u.Username,
		cred: &syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]},
	}, nil
}

// own gives the account a file or directory of ours, not what is in it.
func (a account) own(path string) error {
	if a.cred == nil {
		return nil
	}
	if err := os.Chown(path, int(a.cred.Uid), int(a.cred.Gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// openWay lets the account into home, its directory in dir, and reports the parent of dir it may not
// pass through: dir is Weir's own, its parents are not ours to change.
func (a account) openWay(dir, home string, b binaries) error {
	if a.cred == nil {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o011 != 0o011 {
		if err := os.Chmod(dir, mode|0o011); err != nil {
			return fmt.Errorf("let user %s pass through %s: %w", a.name, dir, err)
		}
	}
	// Only the kernel knows all the rules (modes, ACLs, mounts): ask it by starting a program there.
	enter := func(dir string) error { return a.command(dir, b.path("postgres"), "--version").Run() }
	denied := enter(home)
	if denied == nil {
		return nil
	}
	for _, parent := range parents(dir) {
		if enter(parent) != nil {
			return fmt.Errorf("user %s, as which PostgreSQL runs because it refuses to run as root, may not enter %s: choose a --dir elsewhere, e.g. under /var/lib", a.name, parent)
		}
	}
	return fmt.Errorf("start a program as user %s: %w", a.name, denied)
}

// parents of an absolute path, from the root.
func parents(path string) []string {
	var all []string
	for p := filepath.Dir(path); p != path; path, p = p, filepath.Dir(p) {
		all = append(all, p)
	}
	slices.Reverse(all)
	return all
}

// command is a PostgreSQL program to be run by the account in dir, in English and untouched by the PG*
// variables of our own environment.
func (a account) command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG")
	}), "LC_ALL=C", "TZ=UTC")
	// A process group of its own: Ctrl-C at the terminal is for Weir, which then closes PostgreSQL last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred, Setpgid: true}
	return cmd
}
