package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// cached is one call at a time: what a hit takes, beside the render that it
// spares.
type cached struct {
	Server  string `default:"http://127.0.0.1:8080" env:"TINTYPE_SERVER" help:"The farm."`
	KeyFile string `required:"" type:"existingfile" help:"File that holds an account's key."`
	N       int    `default:"60" help:"Calls of each kind."`
}

// Run takes turns: a page that nobody has seen is rendered; the same call again
// hits what the leader remembers; and a page of some calls ago hits what the
// archive has. Each answer is checked to be what it is counted as.
func (c *cached) Run(ctx context.Context) error {
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return err
	}
	farm := &server{url: strings.TrimSuffix(c.Server, "/"), key: strings.TrimSpace(string(key))}
	run := rand.Text() // else a second run would hit what the first one made
	var fresh, recent, filed []time.Duration
	for i := range c.N + warmUp {
		render, err := farm.picture(ctx, run, i, false)
		if err != nil {
			return fmt.Errorf("render %d: %w", i, err)
		}
		again, err := farm.picture(ctx, run, i, true)
		if err != nil {
			return fmt.Errorf("the same again, %d: %w", i, err)
		}
		if i < warmUp {
			continue
		}
		old, err := farm.picture(ctx, run, i-warmUp, true)
		if err != nil {
			return fmt.Errorf("an older one, %d: %w", i, err)
		}
		fresh, recent, filed = append(fresh, render), append(recent, again), append(filed, old)
	}
	out := struct {
		N      int       `json:"n"`
		Fresh  quantiles `json:"fresh_ms"`      // POST /v1/screenshot to the last byte
		Recent quantiles `json:"hit_recent_ms"` // the same call right after it
		Filed  quantiles `json:"hit_filed_ms"`  // the same call some calls later
		Times  float64   `json:"fresh_over_hit_p50"`
	}{c.N, summarise(fresh), summarise(recent), summarise(filed), 0}
	out.Times = out.Fresh.P50 / out.Filed.P50
	return report(out)
}

// picture takes page i of a run, and how long that took; hit says what it must
// be.
func (f *server) picture(ctx context.Context, run string, i int, hit bool) (time.Duration, error) {
	body := spec()
	body["html"] = fmt.Sprintf("%s<!-- %s %d -->", page, run, i)
	body["ttl_s"] = 3600
	start := time.Now()
	b, resp, err := f.do(ctx, http.MethodPost, "/v1/screenshot", body)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	want := map[string]string{"X-Render-Cached": fmt.Sprint(hit), "X-Render-Billable": fmt.Sprint(!hit), "X-Render-Stale": ""}
	for name, value := range want {
		if got := resp.Header.Get(name); got != value {
			err = errors.Join(err, fmt.Errorf("%s is %q, want %q", name, got, value))
		}
	}
	return took, errors.Join(err, isPicture(b))
}
