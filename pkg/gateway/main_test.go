package gateway

import (
	"testing"

	"weir/pkg/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }
