package embedded

import (
	"errors"
	"strings"
	"testing"
)

func TestFindBinaries_SaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := findBinaries([]string{t.TempDir()}, 0)
	if !errors.Is(err, ErrNoPostgres) {
		t.Fatalf("error = %v, want ErrNoPostgres", err)
	}
	for _, command := range []string{"apt-get install -y postgresql", "brew install postgresql"} {
		if !strings.Contains(err.Error(), command) {
			t.Errorf("error %q lacks %q", err, command)
		}
	}
}

func TestFindBinaries_TakesTheVersionOfTheData(t *testing.T) {
	skipIfShort(t)
	newest, err := findBinaries(postgresPlaces(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := findBinaries(postgresPlaces(), newest.major); err != nil || same != newest {
		t.Errorf("binaries of version %d = %+v, %v; want %+v", newest.major, same, err, newest)
	}
	_, err = findBinaries(postgresPlaces(), 7)
	if err == nil || !strings.Contains(err.Error(), "install version 7") {
		t.Errorf("error for data of version 7 = %v", err)
	}
}
