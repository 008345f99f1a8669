package browser

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"weir/pkg/gateway"
)

// screenshots is a directory that gets pictures of all pages (`task screenshots`).
const screenshots = "WEIR_SCREENSHOTS"

// Pictures of every page, light and dark, wide and narrow: of a real log, brought up to today, and of what
// real logs lack, which is generated and says so.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv(screenshots)
	if dir == "" {
		t.Skip("pictures are made by `task screenshots`, which names a directory in " + screenshots)
	}
	s := weir(t)
	s.bringUpToDate(t)
	s.simulate(t)
	if err := os.MkdirAll(filepath.Join(dir, "readme"), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, page := range pages() {
		for name, d := range devices() {
			b := openOn(t, s, page.path, d)
			if page.path == "/" {
				b.until("the live page to follow", `!document.getElementById("pulse").hidden`)
			}
			if page.readme == name {
				take(t, b, chromedp.CaptureScreenshot(), filepath.Join(dir, "readme", page.name+".png"))
			}
			take(t, b, chromedp.FullScreenshot(100), filepath.Join(dir, page.name+"-"+name+".png"))
			b.close()
		}
	}
}

func take(t *testing.T, b *tab, picture chromedp.Action[[]byte], path string) {
	t.Helper()
	png, err := chromedp.Run(b.ctx, picture)
	if err == nil {
		err = os.WriteFile(path, png, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func devices() map[string]device {
	dark, darkPhone := desk(), phone()
	dark.dark, darkPhone.dark = true, true
	return map[string]device{"light": desk(), "dark": dark, "light-narrow": phone(), "dark-narrow": darkPhone}
}

// named is a page and an address of it that has something to show.
type named struct {
	name, path string
	readme     string // how the README shows it; "": not
}

func pages() []named {
	const day = "?last=24h"
	return []named{
		{"live", "/", "light"},
		{"apis", "/apis" + day, ""},
		{"api", "/apis/one?api=catalog&last=24h", "dark"},
		{"applications", "/applications" + day, ""},
		{"errors", "/errors" + day, ""},
		{"latency", "/latency" + day, ""},
		{"throttling", "/throttling" + day, ""},
		{"devices", "/devices" + day, ""},
		{"alerts", "/alerts" + day, ""},
		{"pipeline", "/pipeline", "light"},
	}
}

// bringUpToDate replays the log as if its newest event were of the last 24 hours.
func (s *site) bringUpToDate(t *testing.T) {
	t.Helper()
	log, err := gateway.OpenLog(t.Context(), realLog, nil, gateway.Combined)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := gateway.Replay(t.Context(), s.Conn, log, gateway.ReplayConfig{ShiftDays: log.AutoShift(time.Now())}); err != nil {
		t.Fatal(err)
	}
}

// simulate publishes generated calls of the last day, and goes on until the test ends.
func (s *site) simulate(t *testing.T) {
	t.Helper()
	publisher, err := gateway.NewPublisher(s.Conn, gateway.PublisherConfig{Source: "gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	simulator := gateway.NewSimulator(gateway.SimulatorConfig{Source: "gw-1", Rate: 60, Seed: 7})
	now := time.Now()
	made := func(from time.Time, every func(time.Time) time.Duration) {
		for at := from; at.Before(now); at = at.Add(every(at)) {
			e, err := simulator.Next(at)
			if err == nil {
				err = publisher.Publish(t.Context(), e.Type, e.JSON)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	day := func(at time.Time) time.Duration { // busiest in the afternoon
		hour := float64(at.UTC().Hour()) + float64(at.UTC().Minute())/60
		return time.Duration(float64(3*time.Second) / (1.15 + math.Sin((hour-9)/24*2*math.Pi)))
	}
	made(now.Add(-24*time.Hour), day)
	made(now.Add(-6*time.Minute), func(time.Time) time.Duration { return 17 * time.Millisecond })
	if err := errors.Join(publisher.Flush(t.Context()), s.drain(t.Context())); err != nil {
		t.Fatal(err)
	}
	life := context.WithoutCancel(t.Context()) // the cleanup comes after the test's own context
	ctx, cancel := context.WithCancel(life)
	done := make(chan error, 1)
	go func() { done <- simulator.Run(ctx, publisher) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(ignore(<-done), publisher.Close(life)); err != nil {
			t.Error(fmt.Errorf("simulate: %w", err))
		}
	})
}

func ignore(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
