//go:build !failpoints

package failpoint

import (
	"strings"
	"testing"
)

func TestSet_OfANormalBuildDoesNothing(t *testing.T) {
	t.Parallel()
	set, err := Parse("")
	if err != nil || set != nil {
		t.Fatalf("got %v, %v", set, err)
	}
	for _, step := range Steps() {
		if err := set.Hit(step); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
}

func TestParse_InANormalBuildRefusesFailpoints(t *testing.T) {
	t.Parallel()
	if _, err := Parse("claimed=exit"); err == nil || !strings.Contains(err.Error(), "-tags failpoints") {
		t.Errorf("got %v, want a refusal that says how to build", err)
	}
}
