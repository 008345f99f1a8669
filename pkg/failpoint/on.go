//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Enabled tells whether this build has failpoints.
const Enabled = true

// ErrInjected is what a step returns that was told to fail.
var ErrInjected = errors.New("injected failure")

// Always, in place of the number of a hit, means all of them.
const Always = 0

// Set is what happens at which step. A nil Set is one in which nothing happens.
// It is safe for concurrent use.
type Set struct {
	mu    sync.Mutex
	hits  map[Step]int
	rules map[Step]rule
}

// rule is what happens on the nth hit of a step, or always.
type rule struct {
	nth int
	do  func(Step) error
}

// Parse reads "STEP[:N]=ACTION", or several separated by commas. The action is
// taken on hit N of the step, which is 1 where it is not given, or for * on
// every one. Actions are exit, panic, error, and pause(DURATION). "" is a set in
// which nothing happens.
func Parse(spec string) (*Set, error) {
	s := &Set{}
	if spec == "" {
		return s, nil
	}
	for _, part := range strings.Split(spec, ",") {
		if err := s.parse(strings.TrimSpace(part)); err != nil {
			return nil, fmt.Errorf("failpoint %q: %w", part, err)
		}
	}
	return s, nil
}

func (s *Set) parse(part string) error {
	at, action, ok := strings.Cut(part, "=")
	if !ok {
		return errors.New("write it as STEP=ACTION, STEP:N=ACTION or STEP:*=ACTION")
	}
	name, number, numbered := strings.Cut(at, ":")
	if !slices.Contains(Steps(), Step(name)) {
		return fmt.Errorf("there is no step %q; the steps are %v", name, Steps())
	}
	nth := 1
	switch n, err := strconv.Atoi(number); {
	case number == "*":
		nth = Always
	case numbered && (err != nil || n < 1):
		return fmt.Errorf("%q is no number of a hit, from 1, and not *", number)
	case numbered:
		nth = n
	}
	do, err := parseAction(action)
	if err != nil {
		return err
	}
	s.set(Step(name), nth, do)
	return nil
}

func parseAction(action string) (func(Step) error, error) {
	if text, ok := strings.CutPrefix(action, "pause("); ok {
		d, err := time.ParseDuration(strings.TrimSuffix(text, ")"))
		if err != nil {
			return nil, fmt.Errorf("write a pause as pause(1s500ms): %w", err)
		}
		return func(Step) error { <-time.After(d); return nil }, nil
	}
	switch action {
	case "exit":
		return exit, nil
	case "panic":
		return func(step Step) error { panic("injected panic at " + string(step)) }, nil
	case "error":
		return fail, nil
	}
	return nil, fmt.Errorf("there is no action %q; the actions are exit, panic, error and pause(DURATION)", action)
}

func exit(Step) error { os.Exit(ExitCode); return nil }

func fail(step Step) error { return fmt.Errorf("%w at %s", ErrInjected, step) }

// Exit ends the process on hit nth of the step, as if it were killed.
func (s *Set) Exit(step Step, nth int) { s.set(step, nth, exit) }

// Fail lets the step return an error that wraps ErrInjected.
func (s *Set) Fail(step Step, nth int) { s.set(step, nth, fail) }

// Panic lets the step panic.
func (s *Set) Panic(step Step, nth int) {
	s.set(step, nth, func(step Step) error { panic("injected panic at " + string(step)) })
}

// Do calls f on hit nth of the step, on the goroutine that is at it; what f
// returns is what the step returns.
func (s *Set) Do(step Step, nth int, f func() error) {
	s.set(step, nth, func(Step) error { return f() })
}

// Pause stops whoever reaches the step, on hit nth. reached is closed when
// somebody is there; resume, which may be called more than once, lets them go on.
func (s *Set) Pause(step Step, nth int) (reached <-chan struct{}, resume func()) {
	there, going := make(chan struct{}), make(chan struct{})
	var once, open sync.Once
	s.set(step, nth, func(Step) error {
		once.Do(func() { close(there) })
		<-going
		return nil
	})
	return there, func() { open.Do(func() { close(going) }) }
}

// Clear lets the step pass from now on. Who is paused at it stays so.
func (s *Set) Clear(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rules, step)
}

// Hits is how often the step was reached.
func (s *Set) Hits(step Step) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[step]
}

// set replaces what happens at the step. The hits it has had count.
func (s *Set) set(step Step, nth int, do func(Step) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		s.rules = map[Step]rule{}
	}
	s.rules[step] = rule{nth, do}
}

// Hit is called where a step is reached. What happens then is what the set says.
func (s *Set) Hit(step Step) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	if s.hits == nil {
		s.hits = map[Step]int{}
	}
	s.hits[step]++
	r, ok := s.rules[step]
	ok = ok && (r.nth == Always || r.nth == s.hits[step])
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return r.do(step)
}
