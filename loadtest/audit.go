package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// projectedWithin is how long the archive may take to have every end.
const projectedWithin = 2 * time.Minute

// number reads one metric of the farm, summed over its labels.
func (c *conn) number(ctx context.Context, name string) (sum float64, err error) {
	resp, text, err := c.do(ctx, answerWithin, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("/metrics: %s", resp.Status)
	}
	found := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		metric, value, _ := strings.Cut(lines.Text(), " ")
		if bare, _, _ := strings.Cut(metric, "{"); bare != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("/metrics has no %s", name)
	}
	return sum, nil
}

// projected waits until the archive has every frame of the ledger.
func (c *conn) projected(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectedWithin, fmt.Errorf("the archive was not up to date within %s", projectedWithin))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		lag, err := c.number(ctx, "tintype_projection_lag_frames")
		if err != nil {
			return err
		}
		if lag == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// archived lists the jobs of a run as the archive has them: id → custom_id,
// newest first, until a whole page is of another run.
func (c *conn) archived(ctx context.Context, run string) (map[string]string, error) {
	found := map[string]string{}
	after := ""
	for {
		path := "/v1/jobs?limit=200"
		if after != "" {
			path += "&after=" + after
		}
		resp, text, err := c.do(ctx, answerWithin, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Data    []answer `json:"data"`
			HasMore bool     `json:"has_more"`
			Next    string   `json:"next_cursor"`
		}
		if err := json.Unmarshal(text, &page); err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s %s", path, resp.Status, text)
		}
		ours := 0
		for _, a := range page.Data {
			if strings.HasPrefix(a.CustomID, run+"-") {
				found[a.ID] = a.CustomID
				ours++
			}
		}
		if !page.HasMore || ours == 0 {
			return found, nil
		}
		after = page.Next
	}
}

// compare holds what the clients were told against what the archive has. A job
// that was submitted once and is there twice, under whichever id, and an id
// that answered for two jobs, are duplicates.
func (c *conn) compare(ctx context.Context, run string, all *seen) (lost, duplicated, wrong int, err error) {
	stored, err := c.archived(ctx, run)
	if err != nil {
		return 0, 0, 0, err
	}
	names := map[string]int{}
	for _, name := range stored {
		names[name]++
	}
	for _, n := range names {
		duplicated += n - 1
	}
	told := map[string]bool{}
	for name, id := range all.ids {
		if told[id] {
			duplicated++
		}
		told[id] = true
		if stored[id] != name {
			all.lost = append(all.lost, id+": not in the archive")
		}
	}
	return len(all.lost), duplicated, len(all.wrong), nil
}
