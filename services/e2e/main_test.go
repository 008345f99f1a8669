package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// program is the path of the weir that the tests run. TestMain sets it.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

// dependOnSources reads the directories that the program is built from. For `go test` that makes them a part of what
// the result depends on: without it a result of an older program would be taken from its cache. It does not look
// at what TestMain reads, so the first test that starts the program calls this.
var dependOnSources = sync.OnceFunc(func() {
	for _, dir := range []string{"../../pkg", "../../services", "../../streams", "../../migrations"} {
		_ = filepath.WalkDir(dir, func(string, os.DirEntry, error) error { return nil }) // never fails
	}
	_, _ = os.Stat("../../go.mod")
})

// atOnce is how many tests run at a time, where -parallel does not say: processes that are waited for, for the most part.
const atOnce = "3"

// withRace is set where the processes are to have the race detector, too (`task race`). It makes them several times
// slower, and the tests of the packages that they are made of have it always.
const withRace = "WEIR_E2E_RACE"

// buildAndRun returns the exit code, after it has cleared away what it built.
func buildAndRun(m *testing.M) int {
	_ = flag.Set("test.parallel", atOnce) // before the arguments are read, which may say otherwise
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e: the tests with real processes need Postgres and are skipped; run without -short")
		return 0
	}
	// Under nohup(1) the programs would inherit that SIGHUP is ignored, unless it is asked for here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "weir")
	race := fmt.Sprintf("-race=%t", os.Getenv(withRace) != "") // GOFLAGS may say otherwise
	if out, err := exec.Command("go", "build", race, "-o", program, "weir/services/weir").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: build weir: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
