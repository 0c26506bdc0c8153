package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tintype/tintype/deploy/policies"
	"github.com/tintype/tintype/loadtest/seeds"
)

// speeds measures what the seeds publish as speeds: how fast threads are
// (SEED-P2I-11), how many pictures a month the farm could take (SEED-P2I-13),
// and what a flood does to others (SEED-WEBSHOT-8).
type speeds struct {
	Shot     time.Duration `default:"400ms" help:"What a render takes here, in the place of the published 16 s."`
	Shots    int           `default:"12" help:"Pictures for each thread."`
	Duration time.Duration `default:"20s" help:"Of the measurement of the control plane."`
	Round    time.Duration `default:"5s" help:"Of one kind of flood."`
}

// threadsRow is a row of the published table.
type threadsRow struct {
	Threads    int     `json:"threads"`
	PublishedS float64 `json:"published_s"`
	FormulaS   float64 `json:"formula_s"` // 16 s / threads
	// What was measured: seconds between two pictures, scaled from --shot to
	// 16 s; and that over the formula.
	MeasuredS float64 `json:"measured_s"`
	Ratio     float64 `json:"ratio"`
}

type speedsReport struct {
	ShotMS   float64      `json:"shot_ms"`
	Threads  []threadsRow `json:"threads"`
	Capacity struct {
		ClaimPerS float64       `json:"claim_per_s"`
		Control   controlReport `json:"control"` // at the claimed rate, open loop
		Most      controlReport `json:"most"`    // closed loop, 256 clients
	} `json:"capacity"`
	Flood *floodReport `json:"flood"`
}

// Run measures one after the other and prints the report.
func (c *speeds) Run(ctx context.Context) error {
	if c.Shot <= 0 || c.Shots < 1 || c.Duration <= 0 || c.Round <= 0 {
		return errors.New("--shot, --shots, --duration and --round must be above 0")
	}
	out := &speedsReport{ShotMS: float64(c.Shot.Microseconds()) / 1000}
	var err error
	if out.Threads, err = c.threads(ctx); err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	out.Capacity.ClaimPerS = seeds.PerSecond(seeds.MonthlyClaim, 30)
	if err := c.capacity(ctx, out); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	if out.Flood, err = (&flood{Rate: 2000, Served: 50, Round: c.Round, Rounds: 2}).measure(ctx); err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	return report(out)
}

// capacity is the control plane at the rate of the claim, and at its own.
func (c *speeds) capacity(ctx context.Context, out *speedsReport) (err error) {
	farm, err := startChild(ctx, childOf{seats: 128})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, farm.stop()) }()
	claim := &control{Clients: 256, Rate: out.Capacity.ClaimPerS, WarmUp: 3 * time.Second, Duration: c.Duration, Jobs: 2_000_000}
	if out.Capacity.Control, err = claim.against(ctx, farm); err != nil {
		return err
	}
	most := &control{Clients: 256, WarmUp: 3 * time.Second, Duration: c.Duration, Jobs: 2_000_000}
	out.Capacity.Most, err = most.against(ctx, farm)
	return err
}

// threads walks the table of Page2images on its own policy, with a renderer of
// known duration.
func (c *speeds) threads(ctx context.Context) (rows []threadsRow, err error) {
	text, ok := policies.Text("page2images")
	if !ok {
		return nil, errors.New("there is no policy of that name")
	}
	farm, err := startChild(ctx, childOf{seats: 40, slow: c.Shot, policy: string(text)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, farm.stop()) }()
	host, err := hostOf(farm.url)
	if err != nil {
		return nil, err
	}
	for _, row := range seeds.Throughput {
		threads := row.Threads
		if row.Misprint != 0 {
			threads = row.Misprint
		}
		plan := fmt.Sprintf("%d-threads", threads)
		if threads == 1 {
			plan = "1-thread"
		}
		key, err := farm.account(ctx, plan, plan)
		if err != nil {
			return nil, err
		}
		every, err := c.pace(ctx, host, key, threads)
		if err != nil {
			return nil, fmt.Errorf("%d threads: %w", threads, err)
		}
		scaled := every.Seconds() * seeds.ShotTime.Seconds() / c.Shot.Seconds()
		formula := seeds.Every(seeds.ShotTime, threads).Seconds()
		rows = append(rows, threadsRow{
			Threads: threads, PublishedS: row.Published.Seconds(), FormulaS: formula, MeasuredS: scaled, Ratio: scaled / formula,
		})
	}
	return rows, nil
}

// pace sends many pictures at once and returns how often one came.
func (c *speeds) pace(ctx context.Context, host, key string, threads int) (time.Duration, error) {
	n := threads * c.Shots
	ids := make(chan string, n)
	submit := &conn{host: host, key: key}
	defer submit.close()
	began := time.Now()
	var all sync.WaitGroup
	problems := make(chan error, threads)
	for range threads { // each waits for one end after the other
		all.Go(func() {
			wait := &conn{host: host, key: key}
			defer wait.close()
			for id := range ids {
				if err := wait.end(ctx, id); err != nil {
					problems <- err
					return
				}
			}
		})
	}
	var err error
	for i := range n {
		var resp *http.Response
		var body []byte
		resp, body, err = submit.do(ctx, answerWithin, http.MethodPost, "/v1/jobs", fmt.Appendf(nil, `{"url":"https://example.com/%s/%d"}`, key[:12], i))
		var a answer
		if err == nil && (resp.StatusCode != http.StatusAccepted || json.Unmarshal(body, &a) != nil) {
			err = fmt.Errorf("%s %s", resp.Status, body)
		}
		if err != nil {
			break
		}
		ids <- a.ID
	}
	close(ids)
	all.Wait()
	took := time.Since(began)
	close(problems)
	return took / time.Duration(n), errors.Join(err, <-problems)
}

// end reads a job to its end, which must be a success.
func (c *conn) end(ctx context.Context, id string) error {
	for {
		resp, body, err := c.do(ctx, answerWithin, http.MethodGet, "/v1/jobs/"+id+"?wait=30", nil)
		if err != nil {
			return err
		}
		var a answer
		if err := json.Unmarshal(body, &a); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s", resp.Status, body)
		}
		switch a.Status {
		case "queued", "running":
		case "succeeded":
			return nil
		default:
			return fmt.Errorf("%s ended as %s", id, a.Status)
		}
	}
}
