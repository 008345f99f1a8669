package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long anything in a browser may take, on a machine that does other things beside it.
const patience = 30 * time.Second

// chromium is the browser of all tests.
var chromium program

type program struct {
	once sync.Once
	ctx  context.Context
	ends []context.CancelFunc
	err  error
}

// start returns the context that tabs are made from.
func (p *program) start() (context.Context, error) {
	p.once.Do(func() {
		binary, err := findChromium()
		if err != nil {
			p.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(binary), chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-color-profile", "srgb"))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox) // which the sandbox does not run as
		}
		allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
		browser, close := chromedp.NewContext(allocator)
		p.ctx, p.ends = browser, []context.CancelFunc{close, end}
		p.err = chromedp.Do(browser) // starts it
	})
	return p.ctx, p.err
}

func (p *program) stop() {
	for _, end := range p.ends {
		end()
	}
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("these tests look at the dashboard in Chromium, and there is none: apt-get install chromium")
}

// device is what a page is looked at with.
type device struct {
	width, height int64
	dark          bool
	scriptless    bool
}

func desk() device  { return device{width: 1440, height: 900} }
func phone() device { return device{width: 390, height: 844} }

// tab is a page that is open. What is wrong with any page fails the test when it ends.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string
	// close closes the tab before the test ends, and reports what was wrong in it.
	close func()

	mu      sync.Mutex // guards what follows
	wrong   []string
	streams int      // that were opened
	allowed []string // parts of errors that the test expects
}

// open opens a page of the site on a desk.
func open(t *testing.T, s *site, path string) *tab {
	t.Helper()
	return openOn(t, s, path, desk())
}

func openOn(t *testing.T, s *site, path string, d device) *tab {
	t.Helper()
	browser, err := chromium.start()
	if err != nil {
		t.Fatal(err)
	}
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	if err := chromedp.Do(ctx); err != nil { // without a time limit, which would be the tab's
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(ctx, 6*patience)
	b := &tab{t: t, ctx: ctx, base: s.HTTPURL}
	b.close = sync.OnceFunc(func() {
		b.report()
		end()
		closeTab()
	})
	t.Cleanup(b.close)
	scheme := "light"
	if d.dark {
		scheme = "dark"
	}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, page.Enable, page.EnableParams{})
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: d.width, Height: d.height, DeviceScaleFactor: 1, Mobile: d.width < 600})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: d.scriptless})
	b.visit(path)
	return b
}

// hear collects what no page may do.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			b.blame("console: %s", arguments(e.Args))
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.blame("exception: %s", text)
	case *log.EventEntryAdded: // a file that is not there, what the policy of the page refuses
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.blame("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if to, err := url.Parse(e.Request.URL); err != nil || to.Scheme != "data" && "http://"+to.Host != b.base {
			b.blame("it asks another host: %s", e.Request.URL)
		}
		if e.Type == network.ResourceTypeEventSource {
			b.mu.Lock()
			b.streams++
			b.mu.Unlock()
		}
	case *page.EventJavascriptDialogOpening:
		b.blame("something that is no script of ours ran: %s(%q)", e.Type, e.Message)
		go func() { // hear may not ask itself
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
		}()
	}
}

func arguments(all []*runtime.RemoteObject) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, fmt.Sprint(a.Value)+a.Description)
	}
	return strings.Join(texts, " ")
}

func (b *tab) blame(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

// allow expects errors with a text in them.
func (b *tab) allow(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, text)
}

func (b *tab) report() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, what := range b.wrong {
		if !slices.ContainsFunc(b.allowed, func(text string) bool { return strings.Contains(what, text) }) {
			b.t.Error(what)
		}
	}
}

// run does things in the tab, in order.
func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call runs a command of the protocol in the tab.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// visit goes to another address of the site.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base + path))
}

// eval returns what an expression of JavaScript is, or the promise that it is becomes.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until an expression of JavaScript is true, whatever page the tab is on by then.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		// An error: the tab is between two pages.
		if is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")")); err == nil && is {
			return
		} else if time.Now().After(deadline) || b.ctx.Err() != nil {
			b.t.Fatalf("waited in vain for %s (%v); the page: %s", what, err, b.text("main"))
		}
	}
}

// text is the text of the first element that a selector finds, as it is seen; "" where there is none.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("(document.querySelector(%s)?.innerText ?? '')", quote(selector)))
}

// texts are the texts of all that a selector finds, whether they are seen or not.
func (b *tab) texts(selector string) []string {
	b.t.Helper()
	return eval[[]string](b, fmt.Sprintf("[...document.querySelectorAll(%s)].map(e => e.textContent.trim().replace(/\\s+/g, ' '))", quote(selector)))
}

// click clicks what a selector finds, which may lead to another page.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)))
}

func quote(text string) string {
	quoted, _ := json.Marshal(text) // a text always can be
	return string(quoted)
}

//go:embed testdata/axe-core/axe.min.js
var axe string

// accessible lets axe-core look at the page as it is now.
func (b *tab) accessible(what string) {
	b.t.Helper()
	if eval[bool](b, "typeof axe === 'undefined'") {
		b.run(chromedp.Evaluate[chromedp.Void](axe))
	}
	found := eval[[]string](b, `axe.run(document, {resultTypes: ['violations']}).then(r => r.violations
		.filter(v => v.impact === 'serious' || v.impact === 'critical')
		.flatMap(v => v.nodes.map(n => v.id + ' (' + v.impact + '): ' + n.target.join(' ') + ': ' + n.failureSummary.replace(/\s+/g, ' '))))`)
	for _, f := range found {
		b.t.Errorf("%s: %s", what, f)
	}
}

// fits reports what makes the page wider than its window.
func (b *tab) fits(what string) {
	b.t.Helper()
	wide := eval[[]string](b, `document.documentElement.scrollWidth <= innerWidth ? [] :
		[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.tagName + '.' + e.className)`)
	if over := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		b.t.Errorf("%s: the page is %d px wider than its window: %s", what, over, wide)
	}
}
