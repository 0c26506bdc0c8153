package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"os"
	"sync"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// An order is one render that is asked of a subject: a line of JSON to it.
type order struct {
	ID   int    `json:"id"`
	URL  string `json:"url"`
	File string `json:"file,omitempty"` // where the picture goes; empty: nowhere
}

// A receipt is a subject's answer.
type receipt struct {
	ID    int    `json:"id"` // 0: the subject is ready for orders
	Bytes int    `json:"bytes,omitempty"`
	Error string `json:"error,omitempty"`
	Port  int    `json:"port,omitempty"` // of a subject that takes its orders over HTTP
}

// subject is the bare driver in a process of its own: the same binary, flags,
// calls, readiness and capture as a seat's, on browsers that take one page at a
// time, with no farm around it: no proxy, no deadlines, no evidence, no checks.
type subject struct {
	Reuse    bool     `help:"One tab for all pages, the ceiling without any isolation; otherwise a fresh context each."`
	Browsers int      `default:"2" help:"Browsers, each with one page at a time."`
	Fast     bool     `default:"true" negatable:"" help:"Encode PNG for speed, as the farm does."`
	Chromium string   `default:"/usr/lib/chromium/chromium-headless-shell" help:"The binary."`
	Flag     []string `sep:"none" help:"A further flag of the browser; may be repeated."`
}

// Run answers orders from stdin until that ends.
func (c *subject) Run(ctx context.Context) error {
	bin := cmp.Or(c.Chromium, browser.DefaultBin)
	orders := make(chan order)
	var all sync.WaitGroup
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	answer := func(r receipt) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(r) //nolint:errcheck // whoever asked has gone
	}
	for range c.Browsers {
		p, err := openPipe(bin, c.Flag)
		if err != nil {
			return err
		}
		defer p.close()
		d := &driver{pipe: p, fast: c.Fast}
		if c.Reuse {
			if err := d.open(ctx); err != nil {
				return err
			}
		}
		all.Go(func() {
			for o := range orders {
				r := receipt{ID: o.ID}
				picture, err := d.render(ctx, o.URL, c.Reuse)
				if err == nil {
					r.Bytes, err = len(picture), keep(picture, o.File)
				}
				if err != nil {
					r.Error = err.Error()
				}
				answer(r)
			}
		})
	}
	answer(receipt{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		orders <- o
	}
	close(orders)
	all.Wait()
	return nil
}

// keep checks a picture's size, and writes it to file if there is one.
func keep(picture []byte, file string) error {
	c, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return fmt.Errorf("not a picture: %w", err)
	}
	if c.Width != corpus.Width || c.Height != corpus.Height {
		return fmt.Errorf("the picture is %d by %d", c.Width, c.Height)
	}
	if file == "" {
		return nil
	}
	return os.WriteFile(file, picture, 0o644)
}

// driver is one browser of the bare driver.
type driver struct {
	*pipe
	fast    bool
	context string
	target  string
	session string

	mu      sync.Mutex
	loads   map[string]bool // loaders that have had their load; guarded by mu
	changed chan struct{}   // guarded by mu
}

// render makes one picture.
func (d *driver) render(ctx context.Context, url string, reuse bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin-5*time.Second)
	defer cancel()
	if !reuse {
		if err := d.open(ctx); err != nil {
			return nil, err
		}
	}
	picture, err := d.shoot(ctx, url)
	if !reuse {
		err = errors.Join(err, d.dispose(ctx))
	}
	return picture, err
}

// open makes a context and a tab as a seat does.
func (d *driver) open(ctx context.Context) error {
	made, err := into[struct{ BrowserContextID string }](ctx, d.pipe, "", "Target.createBrowserContext", map[string]any{"disposeOnDetach": true})
	if err != nil {
		return err
	}
	d.context = made.BrowserContextID
	if _, err := d.call(ctx, "", "Browser.setDownloadBehavior", map[string]any{"behavior": "deny", "browserContextId": d.context, "eventsEnabled": true}); err != nil {
		return err
	}
	target, err := into[struct{ TargetID string }](ctx, d.pipe, "", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": d.context})
	if err != nil {
		return err
	}
	d.target = target.TargetID
	attached, err := into[struct{ SessionID string }](ctx, d.pipe, "", "Target.attachToTarget", map[string]any{"targetId": d.target, "flatten": true})
	if err != nil {
		return err
	}
	d.session = attached.SessionID
	d.mu.Lock()
	d.loads, d.changed = map[string]bool{}, make(chan struct{})
	d.mu.Unlock()
	d.on(d.session, d.event)
	for _, c := range []struct {
		method string
		params any
	}{
		{"Page.enable", nil},
		{"Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}},
		{"Inspector.enable", nil},
	} {
		if _, err := d.send(d.session, c.method, c.params, false); err != nil {
			return err
		}
	}
	// Not waited for, it comes too late for the page's process: half of the
	// events would never be made, and cost nothing.
	if _, err := d.call(ctx, d.session, "Network.enable", map[string]any{"maxTotalBufferSize": 0, "maxResourceBufferSize": 0}); err != nil {
		return err
	}
	_, err = d.send(d.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": corpus.Width, "height": corpus.Height, "deviceScaleFactor": 1, "mobile": false}, false)
	return err
}

func (d *driver) dispose(ctx context.Context) error {
	d.on(d.session, nil)
	_, err := d.call(ctx, "", "Target.disposeBrowserContext", map[string]any{"browserContextId": d.context})
	return err
}

func (d *driver) event(method string, params []byte) {
	if method != "Page.lifecycleEvent" {
		return
	}
	var e struct{ FrameID, LoaderID, Name string }
	if json.Unmarshal(params, &e) != nil || e.Name != "load" || e.FrameID != d.target {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads[e.LoaderID] = true
	close(d.changed)
	d.changed = make(chan struct{})
}

// shoot opens the page, waits as the farm does, and captures it.
func (d *driver) shoot(ctx context.Context, url string) ([]byte, error) {
	nav, err := into[struct{ LoaderID, ErrorText string }](ctx, d.pipe, d.session, "Page.navigate", map[string]any{"url": url})
	if err == nil && nav.ErrorText != "" {
		err = errors.New(nav.ErrorText)
	}
	if err != nil {
		return nil, err
	}
	if err := d.loaded(ctx, nav.LoaderID); err != nil {
		return nil, err
	}
	world, err := into[struct{ ExecutionContextID int }](ctx, d.pipe, d.session, "Page.createIsolatedWorld", map[string]any{"frameId": d.target, "worldName": "bare"})
	if err != nil {
		return nil, err
	}
	if _, err := d.call(ctx, d.session, "Runtime.evaluate", map[string]any{
		"expression": capture.ReadyExpression(5 * time.Second), "contextId": world.ExecutionContextID, "awaitPromise": true, "returnByValue": true,
	}); err != nil {
		return nil, err
	}
	text, err := d.call(ctx, d.session, "Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": d.fast})
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("{")) { // a small one
		var small struct{ Data []byte }
		return small.Data, json.Unmarshal(text, &small)
	}
	picture := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(picture, text)
	return picture[:n], err
}

func (d *driver) loaded(ctx context.Context, loader string) error {
	for {
		d.mu.Lock()
		ok, changed := d.loads[loader], d.changed
		d.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-d.done:
			return errors.New("the browser is gone")
		case <-ctx.Done():
			return fmt.Errorf("the page did not load: %w", ctx.Err())
		}
	}
}
