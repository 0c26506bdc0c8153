package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// flood measures what a flood of throttled requests does to those who are
// served, beside the same flood on /healthz, which is the least that any
// request takes. Rounds alternate, so that what else the machine does meets all.
type flood struct {
	Rate   float64       `default:"2000" help:"Requests of the flood that are due each second, whether or not earlier ones were answered." placeholder:"PER_SECOND"`
	Served float64       `default:"50" help:"Jobs a second of clients with a premium key, all the while." placeholder:"PER_SECOND"`
	Round  time.Duration `default:"3s" help:"Of one kind of flood."`
	Rounds int           `default:"10" help:"Of each kind."`
	Limits time.Duration `default:"8s" help:"Of one round of the comparison of a farm with limits and one without; 0 leaves it out."`
}

// floodPolicy has one token a minute for an address, so that as good as every
// request of the flood is throttled; it is refused as Webshot does.
const floodPolicy = `version: 1
anonymous_plan: anonymous
plans:
- {name: premium, threads: 100}
- name: anonymous
  rate: {algorithm: token_bucket, requests: 1, window_s: 60, burst: 1, by: ip, charge: all}
  dialect: webshot
`

// The kinds of rounds. Quiet has no flood. In rotating, the flood comes from
// another network before the ladder's first step is reached: all but the first
// of each are 429. In insisting it stays at one address, and climbs the ladder.
const (
	quiet     = "quiet"
	healthz   = "healthz"
	rotating  = "throttled"
	insisting = "blocked"
)

// rotateAfter is less than the half second in which requests may have been on
// their way when their sender was told to wait.
const (
	rotateAfter  = 350 * time.Millisecond
	heraldBefore = 50 * time.Millisecond
)

// floodKind is what came of all rounds of a kind.
type floodKind struct {
	Served  quantiles      `json:"served_ms"`         // POST /v1/jobs?wait to the end of the job
	Jobs    int            `json:"served"`            // that ended
	P95s    []float64      `json:"served_p95_ms"`     // by round
	Answers map[string]int `json:"answers,omitempty"` // of the flood, by status
	Late    quantiles      `json:"flood_ms"`          // of the flood, from when each was due
	CPU     float64        `json:"farm_cpu_us"`       // of the farm for one answer, beyond what it takes without a flood
	Own     float64        `json:"generator_cpu_us"`  // of this process for one answer, likewise
	farm    time.Duration  // processor time of all rounds
	own     time.Duration  // likewise
	waits   []time.Duration
	answers []time.Duration
}

type floodReport struct {
	Rate   float64               `json:"rate"`
	RoundS float64               `json:"round_s"`
	Rounds int                   `json:"rounds"`
	Kinds  map[string]*floodKind `json:"kinds"`
	// P95 of the served beside each flood over that beside the one on /healthz,
	// of all rounds; served_p95_ms shows how much they differ by themselves.
	Throttled float64     `json:"throttled_to_healthz_p95"`
	Blocked   float64     `json:"blocked_to_healthz_p95"`
	Limits    *limitsCost `json:"limits,omitempty"`
}

// Run prints the report, and fails if anybody who was to be served was not.
func (c *flood) Run(ctx context.Context) error {
	if c.Rate <= 0 || c.Served <= 0 || c.Round <= 0 || c.Rounds < 1 || c.Limits < 0 {
		return errors.New("--rate, --served, --round and --rounds must be above 0, --limits not below")
	}
	out, err := c.measure(ctx)
	if err != nil {
		return err
	}
	if c.Limits > 0 {
		if out.Limits, err = c.compare(ctx); err != nil {
			return err
		}
	}
	return report(out)
}

func (c *flood) measure(ctx context.Context) (_ *floodReport, err error) {
	farm, err := startChild(ctx, childOf{seats: 32, policy: floodPolicy})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, farm.stop()) }()
	host, err := hostOf(farm.url)
	if err != nil {
		return nil, err
	}
	out := &floodReport{Rate: c.Rate, RoundS: c.Round.Seconds(), Rounds: c.Rounds, Kinds: map[string]*floodKind{}}
	wave := &wave{flood: c, host: host, key: farm.key}
	order := []string{quiet, healthz, rotating, insisting}
	for _, kind := range order {
		out.Kinds[kind] = &floodKind{Answers: map[string]int{}}
	}
	if err := wave.round(ctx, quiet, new(floodKind), farm); err != nil { // warm-up
		return nil, err
	}
	for range c.Rounds {
		for _, kind := range order {
			if err := wave.round(ctx, kind, out.Kinds[kind], farm); err != nil {
				return nil, err
			}
		}
	}
	for _, k := range out.Kinds {
		k.Served, k.Jobs, k.Late = summarise(k.waits), len(k.waits), summarise(k.answers)
		if n := float64(len(k.answers)); n > 0 {
			k.CPU = float64((k.farm - out.Kinds[quiet].farm).Microseconds()) / n
			k.Own = float64((k.own - out.Kinds[quiet].own).Microseconds()) / n
		}
	}
	out.Throttled = out.Kinds[rotating].Served.P95 / out.Kinds[healthz].Served.P95
	out.Blocked = out.Kinds[insisting].Served.P95 / out.Kinds[healthz].Served.P95
	return out, c.judge(out)
}

// judge says what makes the numbers worthless.
func (c *flood) judge(out *floodReport) error {
	for kind, k := range out.Kinds {
		want := int(c.Rate * c.Round.Seconds() * float64(c.Rounds))
		if got := len(k.answers); kind != quiet && got < want*9/10 {
			return fmt.Errorf("%s: %d of %d requests of the flood were answered: %v", kind, got, want, k.Answers)
		}
	}
	if got := out.Kinds[rotating]; got.Answers["429"] < len(got.answers)*9/10 {
		return fmt.Errorf("the flood was to be throttled: %v", got.Answers)
	}
	return nil
}

// wave is one flood after the other against one farm.
type wave struct {
	*flood
	host, key string
	networks  atomic.Int64 // that a flood has come from
	jobs      atomic.Int64
}

// waveSeen is what one round saw.
type waveSeen struct {
	mu      sync.Mutex
	waits   []time.Duration // guarded by mu, as all below
	answers []time.Duration
	status  map[string]int
	err     error
}

// round floods and serves at the same time.
func (w *wave) round(ctx context.Context, kind string, to *floodKind, farm *child) error {
	ctx, cancel := context.WithTimeout(ctx, 4*w.Round+answerWithin)
	defer cancel()
	saw := &waveSeen{status: map[string]int{}}
	farmBefore, err := cpuOf(farm.cmd.Process.Pid)
	if err != nil {
		return err
	}
	ownBefore, began := ownCPU(), time.Now().Add(2*heraldBefore)
	var all sync.WaitGroup
	all.Go(func() { w.pace(w.Served, 64, began, func(c *conn, due time.Time) { w.serve(ctx, c, due, saw) }) })
	if kind != quiet {
		first := w.networks.Add(1_000) - 1_000
		all.Go(func() { w.herald(ctx, kind, first, began) })
		all.Go(func() {
			w.pace(w.Rate, 128, began, func(c *conn, due time.Time) { w.ask(ctx, kind, first, c, due, due.Sub(began), saw) })
		})
	}
	all.Wait()
	farmAfter, err := cpuOf(farm.cmd.Process.Pid)
	if err != nil {
		return err
	}
	to.own += ownCPU() - ownBefore
	for name, cpu := range farmAfter {
		to.farm += cpu - farmBefore[name]
	}
	to.P95s = append(to.P95s, summarise(slices.Clone(saw.waits)).P95)
	to.waits, to.answers = append(to.waits, saw.waits...), append(to.answers, saw.answers...)
	for status, n := range saw.status {
		if to.Answers != nil {
			to.Answers[status] += n
		}
	}
	return saw.err
}

// pace makes requests due evenly for one round; clients that are free take
// them, and what is due when none is waits for one.
func (w *wave) pace(rate float64, clients int, began time.Time, do func(c *conn, due time.Time)) {
	due := make(chan time.Time, int(rate*w.Round.Seconds())+1) // all of them: nobody waits for room
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			c := &conn{host: w.host}
			defer c.close()
			for at := range due {
				do(c, at)
			}
		})
	}
	for n := range int(rate * w.Round.Seconds()) {
		at := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			time.Sleep(wait)
		}
		due <- at
	}
	close(due)
	all.Wait()
}

// serve is one job of somebody who is to be served.
func (w *wave) serve(ctx context.Context, c *conn, due time.Time, saw *waveSeen) {
	c.key = w.key
	body := fmt.Appendf(nil, `{"url":"https://example.com/%d"}`, w.jobs.Add(1))
	resp, answer, err := c.do(ctx, answerWithin, http.MethodPost, "/v1/jobs?wait=30", body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("a job that was to be served: %s %s", resp.Status, answer)
	}
	took := time.Since(due)
	saw.mu.Lock()
	defer saw.mu.Unlock()
	saw.waits, saw.err = append(saw.waits, took), errors.Join(saw.err, err)
}

// herald takes the token of each address that a flood will come from, and is
// throttled, just before: what is measured is a flood of throttled requests,
// and not its first moment.
func (w *wave) herald(ctx context.Context, kind string, first int64, began time.Time) {
	c := &conn{host: w.host}
	defer c.close()
	for turn := time.Duration(0); turn < w.Round; turn += rotateAfter {
		time.Sleep(time.Until(began.Add(turn - heraldBefore)))
		for range 2 {
			if _, err := w.from(ctx, kind, first, c, turn); err != nil {
				return // the flood will tell
			}
		}
	}
}

// from sends one request of the flood. The address changes as often on
// /healthz, where it does not matter: connections cost too.
func (w *wave) from(ctx context.Context, kind string, network int64, c *conn, into time.Duration) (*http.Response, error) {
	if kind != insisting {
		network += int64(into / rotateAfter)
	}
	source := "127." + strconv.FormatInt(1+network/250%250, 10) + "." + strconv.FormatInt(network%250, 10) + ".9"
	if source != c.source {
		c.close()
		c.source = source
	}
	path := "/v1/screenshot?url=https://example.com/flood"
	if kind == healthz {
		path = "/healthz"
	}
	resp, _, err := c.do(ctx, answerWithin, http.MethodGet, path, nil)
	return resp, err
}

// ask is one request of the flood, and what came of it.
func (w *wave) ask(ctx context.Context, kind string, network int64, c *conn, due time.Time, into time.Duration, saw *waveSeen) {
	resp, err := w.from(ctx, kind, network, c, into)
	took := time.Since(due)
	saw.mu.Lock()
	defer saw.mu.Unlock()
	if err != nil {
		saw.status["none"]++
		return
	}
	saw.status[strconv.Itoa(resp.StatusCode)]++
	saw.answers = append(saw.answers, took)
}

// limitsCost is what limits cost a job: its POST, and the long poll that reads
// its end.
type limitsCost struct {
	Without []float64 `json:"cpu_us_per_job_without"` // of the farm, by round
	With    []float64 `json:"cpu_us_per_job_with"`
	Added   float64   `json:"added_us_per_request"`
	Refused int       `json:"refused"`
}

// limited has every kind of limit, and none is ever reached.
const limited = `version: 1
http_limits:
- {class: api, by: ip, requests: 10000000, window_s: 3600}
- {class: api, by: key, requests: 10000000, window_s: 3600}
- {class: api, by: account, requests: 10000000, window_s: 3600}
plans:
- name: default
  threads: seats
  over_threads: {action: park, backlog: 100000}
  rate: {algorithm: token_bucket, requests: 10000000, window_s: 60, burst: 10000000, by: account}
  quota: {unit: render, limit: 1000000000000}
`

// compare alternates between a farm with limits and one without.
func (c *flood) compare(ctx context.Context) (_ *limitsCost, err error) {
	const rounds = 3
	farms := map[string]*child{}
	for name, policy := range map[string]string{"without": "", "with": limited} {
		if farms[name], err = startChild(ctx, childOf{seats: 64, policy: policy}); err != nil {
			break
		}
	}
	defer func() {
		for f := range maps.Values(farms) {
			if f != nil {
				err = errors.Join(err, f.stop())
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	out := &limitsCost{}
	for range rounds {
		for _, name := range []string{"without", "with"} {
			r, err := (&control{Clients: 64, WarmUp: time.Second, Duration: c.Limits, Jobs: 2_000_000}).against(ctx, farms[name])
			if err != nil {
				return nil, fmt.Errorf("%s limits: %w", name, err)
			}
			if name == "with" {
				out.With = append(out.With, r.CPU)
			} else {
				out.Without = append(out.Without, r.CPU)
			}
			for _, n := range r.Refused {
				out.Refused += n
			}
		}
	}
	var sum float64
	for i := range out.With {
		sum += out.With[i] - out.Without[i]
	}
	out.Added = sum / rounds / 2 // two requests a job
	return out, nil
}
