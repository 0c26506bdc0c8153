package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// page is the trivial page that both sides render.
const page = `<!doctype html><title>idle</title><h1>Tintype</h1><p>The quick brown fox.`

const (
	pageWidth  = 1280
	pageHeight = 800
)

// idle is one job at a time: what the farm adds to a bare render.
type idle struct {
	Server   string `default:"http://127.0.0.1:8080" env:"TINTYPE_SERVER" help:"The farm."`
	KeyFile  string `required:"" type:"existingfile" help:"File that holds an account's key."`
	N        int    `default:"60" help:"Renders on each side."`
	Chromium string `default:"/usr/lib/chromium/chromium-headless-shell" help:"The browser of the bare driver."`
}

const warmUp = 5

// Run alternates between the farm and the bare driver, so that foreign load
// meets both.
func (c *idle) Run(ctx context.Context) error {
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return err
	}
	farm := &server{url: strings.TrimSuffix(c.Server, "/"), key: strings.TrimSpace(string(key))}
	address, stop, err := servePage()
	if err != nil {
		return err
	}
	defer stop()
	bare, err := startBare(ctx, c.Chromium)
	if err != nil {
		return fmt.Errorf("bare driver: %w", err)
	}
	defer bare.stop()

	var submits, polled, synced, plain []time.Duration
	for i := range c.N + warmUp {
		submit, whole, err := farm.submitAndWait(ctx)
		if err != nil {
			return fmt.Errorf("job %d: %w", i, err)
		}
		sync, err := timed(func() error { return farm.screenshot(ctx) })
		if err != nil {
			return fmt.Errorf("screenshot %d: %w", i, err)
		}
		alone, err := timed(func() error { return bare.render(ctx, address) })
		if err != nil {
			return fmt.Errorf("bare render %d: %w", i, err)
		}
		if i >= warmUp {
			submits, polled = append(submits, submit), append(polled, whole)
			synced, plain = append(synced, sync), append(plain, alone)
		}
	}
	out := struct {
		N      int       `json:"n"`
		Submit quantiles `json:"submit_ms"` // POST /v1/jobs to its 202
		Job    quantiles `json:"job_ms"`    // POST, long poll, result in hand
		Sync   quantiles `json:"sync_ms"`   // POST /v1/screenshot to the last byte
		Bare   quantiles `json:"bare_ms"`   // rod: fresh context, navigate, load, screenshot
		Added  float64   `json:"added_p50_ms"`
	}{c.N, summarise(submits), summarise(polled), summarise(synced), summarise(plain), 0}
	out.Added = out.Sync.P50 - out.Bare.P50
	return report(out)
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// servePage serves the page to the bare driver.
func servePage() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, page) //nolint:errcheck // a browser that went away asks again
	})}
	go s.Serve(l) //nolint:errcheck // ends with Close
	return "http://" + l.Addr().String() + "/", func() { s.Close() }, nil
}

// server speaks to the API as a client would, with nothing in between.
type server struct{ url, key string }

func (f *server) do(ctx context.Context, method, path string, body any) ([]byte, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.url+path, r)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return b, resp, err
}

func spec() map[string]any {
	return map[string]any{"html": page, "width": pageWidth, "height": pageHeight}
}

// submitAndWait is the asynchronous way: 202, long poll, result.
func (f *server) submitAndWait(ctx context.Context) (submit, whole time.Duration, err error) {
	var job struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	start := time.Now()
	b, resp, err := f.do(ctx, http.MethodPost, "/v1/jobs", spec())
	if err != nil {
		return 0, 0, err
	}
	submit = time.Since(start)
	if resp.StatusCode != http.StatusAccepted {
		return 0, 0, fmt.Errorf("submitted: %s", resp.Status)
	}
	for json.Unmarshal(b, &job) == nil && (job.Status == "queued" || job.Status == "running") {
		if b, _, err = f.do(ctx, http.MethodGet, "/v1/jobs/"+job.ID+"?wait=30", nil); err != nil {
			return 0, 0, err
		}
	}
	if job.Status != "succeeded" {
		return 0, 0, fmt.Errorf("job ended so: %s", b)
	}
	if b, _, err = f.do(ctx, http.MethodGet, "/v1/jobs/"+job.ID+"/result", nil); err != nil {
		return 0, 0, err
	}
	return submit, time.Since(start), isPicture(b)
}

// screenshot is the way of one call.
func (f *server) screenshot(ctx context.Context) error {
	b, _, err := f.do(ctx, http.MethodPost, "/v1/screenshot", spec())
	if err != nil {
		return err
	}
	return isPicture(b)
}

// isPicture checks that b is a PNG of the page's size.
func isPicture(b []byte) error {
	c, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("not a picture: %w", err)
	}
	if c.Width != pageWidth || c.Height != pageHeight {
		return fmt.Errorf("the picture is %d × %d", c.Width, c.Height)
	}
	return nil
}
