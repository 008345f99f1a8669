// Package version is `weir version`: which build this is.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"weir/services/config"
)

// release is set by the build of a release: -ldflags "-X weir/services/version.release=v1.2.3".
// The linker can set nothing but a variable.
var release string //nolint:gochecknoglobals // see above; never written by the program

// Command is `weir version`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    `Print the version of this program, the Go release that it was built with, and the platform that it is for, on one line.`,
		Example: `  weir version`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "weir %s %s %s/%s\n",
				String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	config.Flags(cmd, config.Unused)
	return cmd
}

// String is the release, else the commit the program was built from ("+dirty" where files had changed),
// else "dev".
func String() string {
	info, _ := debug.ReadBuildInfo()
	return describe(release, info)
}

// Semantic is [String] as a semantic version, where one is asked for: that of a release, else 0.0.0 with the commit as
// its build.
func Semantic() string { return semantic(String()) }

func semantic(version string) string {
	if release := strings.TrimPrefix(version, "v"); strings.Count(release, ".") >= 2 {
		return release
	}
	return "0.0.0+" + strings.ReplaceAll(version, "+", ".")
}

func describe(release string, info *debug.BuildInfo) string {
	var revision, dirty string
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value[:min(len(s.Value), 12)]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+dirty"
			}
		}
	}
	if revision != "" {
		revision += dirty
	}
	return cmp.Or(release, revision, "dev")
}
