package chaos

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Config says what to run. Program, Dir and Out are required.
type Config struct {
	Program string // the weir that is run: worker, apply, chaos nats-node
	Dir     string // holds everything: data, logs, history; empty or missing
	Out     io.Writer

	Seed     uint64
	Topology string        // R1 (default) or R3
	Length   time.Duration // of the load; default 45 s. Draining and checking come on top
	Events   int           // to be published; default Rate for Length
	Rate     float64       // events a second; default 2,000, or what Events needs
	Workers  int           // default 3
	Faults   []string      // by name; all, none. Default all
	CanMount bool          // disk-full is possible: this process may mount, and its mounts end with it
	// Audit runs `weir audit` beside each check.
	Audit bool
	// Failpoints says that the program has failpoints: then some workers end at one.
	Failpoints bool
}

func (c Config) withDefaults() Config {
	if c.Topology == "" {
		c.Topology = R1
	}
	if c.Length <= 0 {
		c.Length = 45 * time.Second
	}
	if c.Rate <= 0 {
		if c.Rate = 2000; c.Events > 0 {
			c.Rate = float64(c.Events) / c.Length.Seconds()
		}
	}
	if c.Events <= 0 {
		c.Events = int(c.Rate * c.Length.Seconds())
	}
	if c.Workers <= 0 {
		c.Workers = 3
	}
	if len(c.Faults) == 0 {
		c.Faults = []string{"all"}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Topology != R1 && c.Topology != R3:
		return fmt.Errorf("the topology is %q, should be %s or %s", c.Topology, R1, R3)
	case c.Length < 10*time.Second:
		return fmt.Errorf("a run of %s is too short for anything to happen: at least 10s", c.Length)
	case c.Workers > 16:
		return errors.New("at most 16 workers")
	}
	return nil
}
