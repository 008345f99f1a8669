package top

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unicode/utf8"

	"weir/services/config"
)

// look is what a look at the instance has brought.
type look struct {
	sample *sample
	err    error
}

// watch shows the view until ctx ends or somebody quits. However it ends, the terminal is what it was.
func watch(ctx context.Context, in, out *os.File, probe *probe, v view, every time.Duration) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGQUIT) // which would end the process as it is
	defer cancel()
	screen, err := openScreen(in, out)
	if err != nil {
		return err
	}
	defer screen.leave()
	looks, keys, broken := make(chan look), make(chan []byte), make(chan any, 2)
	// A panic of these goroutines would end the process with the terminal as it is.
	guarded := func(work func()) {
		go func() {
			defer func() {
				if reason := recover(); reason != nil {
					broken <- reason
				}
			}()
			work()
		}()
	}
	guarded(func() { probing(ctx, probe, looks, every) })
	guarded(func() { reading(ctx, in, keys) })
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGCONT)
	defer signal.Stop(signals)
	second := time.NewTicker(time.Second) // the clock and the lag go on between looks
	defer second.Stop()
	for {
		screen.draw(&v, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case reason := <-broken:
			panic(reason)
		case s := <-signals:
			if s == syscall.SIGCONT {
				if err := screen.enter(); err != nil {
					return err
				}
			}
		case <-second.C:
		case l := <-looks:
			v.take(l)
		case typed, open := <-keys:
			if !open { // the terminal is gone
				return nil
			}
			switch v.typed(typed) {
			case quit:
				return nil
			case suspend:
				screen.leave()
				// The terminal would have done that, were it not raw.
				if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
					return fmt.Errorf("suspend: %w", err)
				}
			case goOn:
			}
		}
	}
}

// probing looks again and again.
func probing(ctx context.Context, probe *probe, looks chan<- look, every time.Duration) {
	for {
		s, err := probe.ask(ctx, time.Now())
		select {
		case looks <- look{s, err}:
		case <-ctx.Done():
			return
		}
		if pause(ctx, every) != nil {
			return
		}
	}
}

// reading reads what is typed. It cannot be stopped while it waits; it ends with the process.
func reading(ctx context.Context, in *os.File, keys chan<- []byte) {
	defer close(keys)
	buffer := make([]byte, 256)
	for {
		n, err := in.Read(buffer)
		if err != nil {
			return
		}
		select {
		case keys <- append([]byte(nil), buffer[:n]...):
		case <-ctx.Done():
			return
		}
	}
}

// take takes what a look has brought in; what was seen before stays where it failed.
func (v *view) take(l look) {
	switch {
	case l.err != nil:
		v.problem = config.Redact(l.err.Error())
	case !v.paused:
		v.sample, v.problem = l.sample, ""
	}
}

// todo is what a key asks of the loop.
type todo int

const (
	goOn todo = iota
	quit
	suspend
)

// typed does what keys say, as the terminal sends them.
func (v *view) typed(keys []byte) todo {
	for len(keys) > 0 {
		key, size := nextKey(keys)
		keys = keys[size:]
		switch {
		case key == "\x03":
			return quit
		case key == "\x1a":
			return suspend
		case v.help:
			v.help = false
		case v.typing:
			v.edit(key)
		default:
			if v.command(key) == quit {
				return quit
			}
		}
	}
	return goOn
}

// nextKey is the key that comes first: a character, or what stands for a key without one.
func nextKey(keys []byte) (string, int) {
	if keys[0] == 0x1b && len(keys) > 2 && (keys[1] == '[' || keys[1] == 'O') {
		for i := 2; i < len(keys); i++ {
			if keys[i] >= '@' && keys[i] <= '~' {
				return "esc" + string(keys[2:i+1]), i + 1
			}
		}
		return "", len(keys)
	}
	_, size := utf8.DecodeRune(keys)
	return string(keys[:size]), size
}

func (v *view) command(key string) todo {
	const page = 10
	switch key {
	case "q", "Q":
		return quit
	case "escC", "s", "l", ">":
		v.sort = (v.sort + 1) % len(columns())
	case "escD", "S", "h", "<":
		v.sort = (v.sort + len(columns()) - 1) % len(columns())
	case "r", "R":
		v.turned = !v.turned
	case "escA", "k":
		v.scroll--
	case "escB", "j":
		v.scroll++
	case "esc5~":
		v.scroll -= page
	case "esc6~", " ":
		v.scroll += page
	case "escH", "esc1~", "g":
		v.scroll = 0
	case "/":
		v.typing, v.filter = true, ""
	case "\x1b":
		v.filter = ""
	case "p", "P":
		v.paused = !v.paused
	case "?":
		v.help = true
	}
	v.scroll = max(0, v.scroll) // frame knows the other end
	return goOn
}

// edit changes the filter.
func (v *view) edit(key string) {
	switch key {
	case "\r", "\n":
		v.typing = false
	case "\x1b":
		v.typing, v.filter = false, ""
	case "\x7f", "\b":
		if _, size := utf8.DecodeLastRuneInString(v.filter); size > 0 {
			v.filter = v.filter[:len(v.filter)-size]
		}
	default:
		if utf8.RuneCountInString(key) == 1 && printable(key) == key {
			v.filter += key
		}
	}
}
