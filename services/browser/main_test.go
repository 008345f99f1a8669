package browser

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// atOnce is how many tests run at a time, where -parallel does not say: a page takes most of a core to draw.
const atOnce = "2"

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", atOnce) // before the arguments are read, which may say otherwise
	code := m.Run()
	chromium.stop()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}
