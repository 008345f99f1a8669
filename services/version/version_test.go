package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe_PrefersReleaseThenCommit(t *testing.T) {
	t.Parallel()
	commit := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "vcs.modified", Value: "true"},
	}}
	tests := []struct {
		name    string
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"release", "v1.2.3", commit, "v1.2.3"},
		{"changed commit", "", commit, "0123456789ab+dirty"},
		{"no commit", "", &debug.BuildInfo{}, "dev"},
		{"no build information", "", nil, "dev"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := describe(tt.release, tt.info); got != tt.want {
				t.Errorf("describe() = %q, want %q", got, tt.want)
			}
		})
	}
}
