package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/pkg/audit"
	"weir/pkg/definition"
	"weir/pkg/gateway"
	auditcommand "weir/services/audit"
	"weir/services/config"
	"weir/services/local"
	"weir/services/version"
)

type demo struct {
	options    options
	instance   *local.Instance
	catalog    *definition.Catalog
	view       *view
	sources    []string // names of the gateways
	publishers []*gateway.Publisher
	simulators []*gateway.Simulator
}

// errWrong ends the demo with exit code 3.
type errWrong struct{ *report }

func (e errWrong) Error() string {
	return fmt.Sprintf("%d events lost, %d counted twice", e.lost, e.doubled)
}

// ExitCode tells a failed check from a demo that could not run.
func (errWrong) ExitCode() int { return 3 }

// errHurried is the second Ctrl-C.
var errHurried = errors.New("ended at once: nothing was checked")

// run publishes until it is time to end, drains, and checks. ctx ending is
// one way to end; what comes after it is cut short by hurry only.
func (d *demo) run(ctx, hurry context.Context) error {
	err := d.publishAndCheck(ctx, hurry)
	if err != nil && hurry.Err() != nil {
		return errHurried
	}
	return err
}

func (d *demo) publishAndCheck(ctx, hurry context.Context) error {
	ending, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.options.length > 0 {
		defer time.AfterFunc(d.options.length, cancel).Stop()
	}
	started := time.Now()
	shown, stopShowing := context.WithCancel(hurry)
	defer stopShowing()
	var showing errgroup.Group
	showing.Go(func() error { return d.view.alerts(shown) })

	published := make(chan error, 1)
	go func() { published <- d.traffic(ending, hurry) }()
	<-d.view.watching
	showing.Go(func() error { return d.view.run(shown) })
	var failed error
	select {
	case failed = <-d.instance.Failed():
		cancel()
		failed = errors.Join(failed, <-published)
	case failed = <-published:
	}
	if failed == nil {
		failed = d.drain(hurry)
	}
	stopShowing()
	if err := errors.Join(failed, showing.Wait()); err != nil {
		return err
	}
	result, err := d.check(hurry, started, time.Now())
	if err != nil {
		return err
	}
	d.view.finish(result, d.audit(hurry))
	if result.wrong() {
		return errWrong{result}
	}
	return nil
}

// drain waits until the workers have acknowledged everything that is published
// by now; others may go on publishing.
func (d *demo) drain(ctx context.Context) error {
	published := time.Now()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := d.instance.Conn.State(ctx)
		if err == nil && state.CompleteThrough.After(published) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the workers did not finish within %s: %d messages waiting, %d in hand", drainTimeout, state.Pending, state.AckPending)
		case err := <-d.instance.Failed():
			return err
		case <-tick.C:
		}
	}
}

// audit is the sentence of an audit of everything, also of what others have
// published or folded before. It is no part of the demo's own check.
func (d *demo) audit(ctx context.Context) string {
	report, err := auditcommand.Full(ctx, audit.New(d.instance.Audit, d.instance.Conn, audit.Config{Version: version.String()}), true)
	if err != nil {
		return "the audit could not be made: " + config.Redact(err.Error())
	}
	return report.Sentence()
}
