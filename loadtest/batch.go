package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// batchLoad measures a batch, from the upload of its lines to the last line of
// its results, and audits it.
type batchLoad struct {
	Lines       int           `default:"100000" help:"Lines of the batch."`
	Interactive int           `default:"0" help:"Jobs that the same account sends one by one, first on the idle farm and then beside the batch."`
	Kills       int           `default:"0" help:"How often a tier is killed on the way; the farm is then one of processes."`
	DryRun      bool          `default:"true" negatable:"" help:"Check the lines with dry_run first."`
	Stop        bool          `help:"Cancel the batch once the interactive jobs are measured, instead of seeing it to its end."`
	Slow        time.Duration `default:"0" help:"What a render takes."`
	Seats       int           `default:"64" help:"Null seats."`
	Threads     int           `default:"0" help:"Of the account; 0 is all seats."`
	Pprof       string        `help:"The farm serves /debug/pprof here." placeholder:"HOST:PORT"`
	Keep        bool          `help:"Keep the folder of a run with kills."`
}

// batchReport is one line of JSON.
type batchReport struct {
	Lines    int     `json:"lines"`
	Bytes    int64   `json:"bytes"`
	Seats    int     `json:"seats"`
	SlowMs   float64 `json:"slow_ms,omitempty"`
	Kills    int     `json:"kills,omitempty"`
	DryRunS  float64 `json:"dry_run_s,omitempty"`
	UploadS  float64 `json:"upload_s"`   // until 202
	CheckedS float64 `json:"validate_s"` // from there until its lines are fed
	FedS     float64 `json:"feed_s"`     // from there until its last line has ended
	EndS     float64 `json:"end_s"`      // from there until the batch has
	ResultsS float64 `json:"results_s"`  // to read them all

	DryPerS     float64 `json:"dry_run_lines_per_s,omitempty"`
	CheckedPerS float64 `json:"validated_lines_per_s"`
	FedPerS     float64 `json:"fed_lines_per_s"` // fed, rendered by nobody, and ended
	ResultsPerS float64 `json:"results_lines_per_s"`

	// Resident memory of the farm's own process, without Postgres; kB.
	RSS *batchRSS `json:"rss_kb,omitempty"`

	Idle   *quantiles `json:"interactive_idle_ms,omitempty"` // POST with a wait to its end
	Beside *quantiles `json:"interactive_beside_ms,omitempty"`
	Added  float64    `json:"interactive_added_p50_ms,omitempty"`

	State  string         `json:"state"`
	Counts map[string]int `json:"counts"`
	Wrong  []string       `json:"wrong"`
}

// batchRSS is resident memory: when nothing had happened, and the most until
// the step was done.
type batchRSS struct {
	Idle      int64 `json:"idle"`
	DryRun    int64 `json:"dry_run,omitempty"`
	Validated int64 `json:"validated"`
	Fed       int64 `json:"fed"`
	Results   int64 `json:"results"`
}

// Run runs the batch.
func (c *batchLoad) Run(ctx context.Context) (err error) {
	if c.Lines < 1 || c.Kills < 0 || c.Seats < 1 || c.Stop && c.Interactive == 0 {
		return errors.New("--lines and --seats must be above 0, --kills not below, and --stop goes with --interactive")
	}
	out := batchReport{Lines: c.Lines, Seats: c.Seats, SlowMs: float64(c.Slow.Microseconds()) / 1000, Kills: c.Kills, Wrong: []string{}}
	if c.Kills > 0 {
		err = c.killed(ctx, &out)
	} else {
		err = c.alone(ctx, &out)
	}
	if err == nil && len(out.Wrong) > 0 {
		err = errors.New("the batch is not what it must be")
	}
	return errors.Join(err, report(out))
}

// alone runs it on a farm of one process, and measures that.
func (c *batchLoad) alone(ctx context.Context, out *batchReport) (err error) {
	threads := c.Threads
	if threads == 0 {
		threads = c.Seats
	}
	farm, err := startChild(ctx, childOf{
		seats: c.Seats, slow: c.Slow, pprof: c.Pprof,
		policy: loadPolicy(threads),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, farm.stop()) }()
	host, err := hostOf(farm.url)
	if err != nil {
		return err
	}
	b := newBatchRun(host, farm.key, c.Lines)
	watch := &conn{host: host, key: farm.key}
	defer watch.close()
	pid := farm.cmd.Process.Pid
	out.RSS = new(batchRSS)
	out.Bytes = b.size()
	if c.Interactive > 0 {
		idle, err := b.interactive(ctx, c.Interactive)
		if err != nil {
			return err
		}
		out.Idle = &idle
	}
	if out.RSS.Idle, err = residentOf(pid); err != nil {
		return err
	}
	peak := watchResident(pid)
	defer peak.stop()
	if err := watch.projected(ctx); err != nil { // or the idle jobs would count as the batch's
		return err
	}
	before, err := b.usage(ctx, watch)
	if err != nil {
		return err
	}

	if c.DryRun {
		began := time.Now()
		if err := b.dryRun(ctx); err != nil {
			return err
		}
		out.DryRunS = time.Since(began).Seconds()
		out.DryPerS = float64(c.Lines) / out.DryRunS
		out.RSS.DryRun = peak.most()
	}
	began := time.Now()
	if err := b.upload(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, farm.log())
	}
	out.UploadS = time.Since(began).Seconds()
	mark := time.Now()
	step := func() float64 {
		s := time.Since(mark).Seconds()
		mark = time.Now()
		return s
	}
	if _, err := b.until(ctx, watch, func(s *batchState) bool { return s.Status != "validating" }); err != nil {
		return err
	}
	out.CheckedS = step()
	out.CheckedPerS = float64(c.Lines) / (out.UploadS + out.CheckedS)
	out.RSS.Validated = peak.most()
	if c.Interactive > 0 {
		if _, err := b.until(ctx, watch, func(s *batchState) bool { return s.Counts["succeeded"] > 0 }); err != nil {
			return err
		}
		beside, err := b.interactive(ctx, c.Interactive)
		if err != nil {
			return err
		}
		s, err := b.state(ctx, watch)
		if err != nil {
			return err
		}
		if s.ended() {
			return errors.New("the batch had ended before the interactive jobs had: take more --lines or fewer --interactive")
		}
		out.Beside, out.Added = &beside, beside.P50-out.Idle.P50
	}
	if c.Stop {
		if err := b.act(ctx, watch, "cancel"); err != nil {
			return err
		}
	} else {
		if _, err := b.until(ctx, watch, func(s *batchState) bool { return s.open() == 0 }); err != nil {
			return err
		}
		out.FedS = step()
		out.FedPerS = float64(c.Lines) / out.FedS
		out.RSS.Fed = peak.most()
	}
	end, err := b.until(ctx, watch, func(s *batchState) bool { return s.ended() })
	if err != nil {
		return err
	}
	out.EndS, out.State, out.Counts = step(), end.Status, end.Counts
	if err := watch.projected(ctx); err != nil {
		return err
	}
	step()
	states, wrong, err := b.read(ctx)
	if err != nil {
		return err
	}
	out.ResultsS = step()
	out.ResultsPerS = float64(c.Lines) / out.ResultsS
	out.RSS.Results = peak.most()
	after, err := b.usage(ctx, watch)
	if err != nil {
		return err
	}
	out.Wrong = append(out.Wrong, wrong...)
	out.Wrong = append(out.Wrong, b.judge(end, states, after-before, c.Interactive)...)
	return nil
}

// loadPolicy is one plan, whose backlog takes whatever a run sends.
func loadPolicy(threads int) string {
	return fmt.Sprintf("version: 1\nplans:\n- {name: default, tier: 0, threads: %d, over_threads: {action: park, backlog: 100000}}\n", threads)
}

// batchRun is one batch of a farm.
type batchRun struct {
	lines
	host, key string
	path      string // of the batch
	http      *http.Client
	sent      int // interactive jobs
}

func newBatchRun(host, key string, n int) *batchRun {
	return &batchRun{
		lines: lines{run: strings.ToLower(rand.Text()[:10]), n: n}, host: host, key: key,
		http: &http.Client{Transport: &http.Transport{DisableCompression: true}},
	}
}

// batchState is what matters of a batch.
type batchState struct {
	ID           string         `json:"id"`
	Status       string         `json:"status"`
	PausedReason string         `json:"paused_reason"`
	Failure      string         `json:"failure"`
	Counts       map[string]int `json:"counts"`
	problem
}

func (s *batchState) open() int { return s.Counts["queued"] + s.Counts["running"] }

func (s *batchState) ended() bool {
	switch s.Status {
	case "completed", "canceled", "expired", "failed":
		return true
	}
	return false
}

// post streams the input. The key makes it the same batch, however often it is
// sent.
func (b *batchRun) post(ctx context.Context, query string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.host+"/v1/batches"+query, b.reader())
	if err != nil {
		return nil, nil, err
	}
	req.ContentLength = b.size()
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+b.key)
	if query == "" {
		req.Header.Set("Idempotency-Key", b.run)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(resp.Body)
	return resp, text, errors.Join(err, resp.Body.Close())
}

// upload makes the batch.
func (b *batchRun) upload(ctx context.Context) error {
	resp, text, err := b.post(ctx, "")
	if err != nil {
		return err
	}
	var s batchState
	if err := json.Unmarshal(text, &s); resp.StatusCode != http.StatusAccepted || err != nil || s.ID == "" {
		return fmt.Errorf("POST /v1/batches: %s %.2000s", resp.Status, text)
	}
	b.path = "/v1/batches/" + s.ID
	return nil
}

// dryRun has the lines checked, and nothing kept.
func (b *batchRun) dryRun(ctx context.Context) error {
	resp, text, err := b.post(ctx, "?dry_run=true")
	if err != nil {
		return err
	}
	var said struct{ Lines, Valid int }
	if err := json.Unmarshal(text, &said); resp.StatusCode != http.StatusOK || err != nil || said.Lines != b.n || said.Valid != b.n {
		return fmt.Errorf("POST /v1/batches?dry_run=true: %s %.2000s", resp.Status, text)
	}
	return nil
}

// state is what GET says.
func (b *batchRun) state(ctx context.Context, c *conn) (*batchState, error) {
	resp, text, err := c.do(ctx, answerWithin, http.MethodGet, b.path, nil)
	if err != nil {
		return nil, err
	}
	s := new(batchState)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s %.500s", b.path, resp.Status, text)
	}
	return s, json.Unmarshal(text, s)
}

// stuckAfter is how long a batch may show no change.
const stuckAfter = 2 * time.Minute

// until waits for a state.
func (b *batchRun) until(ctx context.Context, c *conn, condition func(*batchState) bool) (*batchState, error) {
	last, since := "", time.Now()
	for {
		s, err := b.state(ctx, c)
		if err != nil {
			return nil, err
		}
		if condition(s) {
			return s, nil
		}
		now := fmt.Sprint(s.Status, s.Counts)
		if now != last {
			last, since = now, time.Now()
		}
		if s.ended() || time.Since(since) > stuckAfter {
			return nil, fmt.Errorf("the batch stays %s: %+v", s.Status, *s)
		}
		sleep(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// act is POST …/{cancel,pause,resume,retry-failed}.
func (b *batchRun) act(ctx context.Context, c *conn, what string) error {
	resp, text, err := c.do(ctx, answerWithin, http.MethodPost, b.path+"/"+what, nil)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("POST %s/%s: %s %.500s", b.path, what, resp.Status, text)
	}
	return err
}

// interactive sends jobs one by one and waits for the end of each.
func (b *batchRun) interactive(ctx context.Context, n int) (quantiles, error) {
	c := &conn{host: b.host, key: b.key}
	defer c.close()
	var took []time.Duration
	for range n {
		b.sent++
		began := time.Now()
		resp, text, err := c.do(ctx, answerWithin, http.MethodPost, "/v1/jobs?wait=30", fmt.Appendf(nil, `{"url":"https://example.com/%s/one/%d"}`, b.run, b.sent))
		if err != nil {
			return quantiles{}, err
		}
		if a, err := read(resp, text); err != nil || resp.StatusCode != http.StatusOK || a.Status != "succeeded" {
			return quantiles{}, fmt.Errorf("an interactive job: %s %.500s", resp.Status, text)
		}
		took = append(took, time.Since(began))
		sleep(ctx, 5*time.Millisecond)
	}
	return summarise(took), nil
}

// usage is what the account has used, in 1/120 credit.
func (b *batchRun) usage(ctx context.Context, c *conn) (int64, error) {
	resp, text, err := c.do(ctx, answerWithin, http.MethodGet, "/v1/usage", nil)
	if err != nil {
		return 0, err
	}
	var said struct{ Units int64 }
	if err := json.Unmarshal(text, &said); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET /v1/usage: %s %.500s", resp.Status, text)
	}
	return said.Units, nil
}

// read reads the results to their end.
func (b *batchRun) read(ctx context.Context) (states map[string]int, wrong []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.host+b.path+"/results", nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // the status says enough
		return nil, nil, fmt.Errorf("GET %s/results: %s %s", b.path, resp.Status, text)
	}
	states = map[string]int{}
	wrong, err = b.results(resp.Body, func(r resultLine) error {
		states[r.Status]++
		return nil
	})
	return states, wrong, err
}

// judge compares what the batch says of itself with its results and its bill.
func (b *batchRun) judge(end *batchState, states map[string]int, units int64, singles int) (wrong []string) {
	for _, state := range []string{"succeeded", "failed", "canceled", "expired"} {
		if end.Counts[state] != states[state] {
			wrong = append(wrong, fmt.Sprintf("it counts %d lines as %s, its results %d", end.Counts[state], state, states[state]))
		}
	}
	if end.Counts["total"] != b.n || end.open() != 0 {
		wrong = append(wrong, fmt.Sprintf("it ended with %v of %d lines", end.Counts, b.n))
	}
	if want := int64(states["succeeded"]+singles) * unitsPerRender; units != want {
		wrong = append(wrong, fmt.Sprintf("%d units were charged, want %d", units, want))
	}
	if end.Status == "completed" && states["succeeded"] != b.n {
		wrong = append(wrong, fmt.Sprintf("%v of %d lines of a page that never fails", states, b.n))
	}
	return wrong
}

// unitsPerRender is what a fresh success costs.
const unitsPerRender = 120
