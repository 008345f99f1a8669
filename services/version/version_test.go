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

func TestSemantic_IsAVersionOfEveryBuild(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1", "0123456789ab+dirty": "0.0.0+0123456789ab.dirty", "dev": "0.0.0+dev",
	} {
		if got := semantic(version); got != want {
			t.Errorf("semantic(%q) = %q, want %q", version, got, want)
		}
	}
}
