package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// webhooks measures how many messages are delivered, and what receivers that
// hang do to those that do not: the same work is done twice, first with healthy
// endpoints alone.
type webhooks struct {
	Endpoints int           `default:"1000" help:"Webhook endpoints in all."`
	Hang      int           `default:"100" help:"Of these, so many never answer; the first run leaves them out."`
	Accounts  int           `default:"100" help:"Accounts that they are spread over."`
	Rate      float64       `default:"20" help:"Jobs a second of the measured time, over all accounts: each is told to every endpoint of its account."`
	Duration  time.Duration `default:"30s" help:"Of the measured time."`
	Burst     int           `default:"2000" help:"Jobs that come at once when the measured time is over: how fast their messages arrive is the throughput."`
	Clients   int           `default:"32" help:"Connections that submit."`
	Seats     int           `default:"64" help:"Null seats."`
	Pprof     string        `help:"The farm serves /debug/pprof here." placeholder:"HOST:PORT"`
}

// webhooksReport is one line of JSON.
type webhooksReport struct {
	Endpoints int         `json:"endpoints"`
	Hang      int         `json:"hang"`
	Accounts  int         `json:"accounts"`
	Rate      float64     `json:"jobs_per_s"`
	Without   webhooksRun `json:"without_hanging"`
	With      webhooksRun `json:"with_hanging"`
	P95Ratio  float64     `json:"p95_ratio"` // with over without
}

// webhooksRun is one of its two halves. Healthy endpoints alone are counted.
type webhooksRun struct {
	Expected   int       `json:"expected"`
	Delivered  int       `json:"delivered"`
	Missing    int       `json:"missing"`
	Again      int       `json:"again"` // arrived more than once
	Broken     int       `json:"broken"`
	Latency    quantiles `json:"latency_ms"`       // end of the job to arrival, in the measured time
	Burst      quantiles `json:"burst_latency_ms"` // the same, of those that came at once
	PerS       float64   `json:"deliveries_per_s"` // of the burst, from its first message to its last
	JobsPerS   float64   `json:"burst_jobs_per_s"` // that were accepted meanwhile
	Refused    int       `json:"refused"`
	CPU        float64   `json:"cpu_us_per_delivery"` // of the farm, in the measured time; renders and all
	HangedSent int       `json:"hanging_attempts"`    // attempts that hang or hung
}

// Run measures both halves.
func (c *webhooks) Run(ctx context.Context) error {
	if c.Accounts < 1 || c.Hang < 0 || c.Endpoints < c.Hang || c.Endpoints%c.Accounts != 0 || c.Rate <= 0 || c.Duration <= 0 || c.Clients < 1 {
		return errors.New("--endpoints must be a multiple of --accounts and no less than --hang; --rate, --duration and --clients above 0")
	}
	out := webhooksReport{Endpoints: c.Endpoints, Hang: c.Hang, Accounts: c.Accounts, Rate: c.Rate}
	var err error
	if out.Without, err = c.once(ctx, false); err == nil {
		out.With, err = c.once(ctx, true)
	}
	if p95 := out.Without.Latency.P95; p95 > 0 {
		out.P95Ratio = out.With.Latency.P95 / p95
	}
	return errors.Join(err, report(out))
}

// crier is an account whose jobs are told, and what has been told of them.
type crier struct {
	key     string
	healthy []string // places

	mu   sync.Mutex
	jobs map[string]bool // that were accepted
}

// tellings gathers what arrives.
type tellings struct {
	mu     sync.Mutex
	seen   map[[2]string]time.Time // place and job → first arrival
	ids    map[[2]string]string    // → webhook-id
	took   map[[2]string]time.Duration
	again  int
	broken []string
	news   chan struct{} // capacity 1: something arrived
}

func newTellings() *tellings {
	return &tellings{
		seen: map[[2]string]time.Time{}, ids: map[[2]string]string{}, took: map[[2]string]time.Duration{}, news: make(chan struct{}, 1),
	}
}

func (t *tellings) take(h hooked) {
	at := [2]string{h.place, h.subject}
	t.mu.Lock()
	switch first := t.ids[at]; {
	case h.broken != "":
		t.broken = append(t.broken, h.broken)
	case first == "":
		t.seen[at], t.ids[at], t.took[at] = h.at, h.id, h.at.Sub(h.finished)
	case first != h.id:
		t.broken = append(t.broken, fmt.Sprintf("%s was told to %s as %s and as %s", h.subject, h.place, first, h.id))
	default:
		t.again++
	}
	t.mu.Unlock()
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// taken is how long they took since the last call, and the time from the first
// arrival to the last.
func (t *tellings) taken() (quantiles, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var took []time.Duration
	var first, last time.Time
	for at, d := range t.took {
		took = append(took, d)
		seen := t.seen[at]
		if first.IsZero() || seen.Before(first) {
			first = seen
		}
		if seen.After(last) {
			last = seen
		}
	}
	clear(t.took)
	return summarise(took), last.Sub(first)
}

func (t *tellings) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seen)
}

// toldWithin is how long the last message may take when nothing else happens.
const toldWithin = 60 * time.Second

// until waits until so many have arrived. It gives up when none has for long.
func (t *tellings) until(ctx context.Context, n int) error {
	quiet := time.NewTimer(toldWithin)
	defer quiet.Stop()
	for t.count() < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-quiet.C:
			return fmt.Errorf("%d of %d messages arrived, and none in the last %s", t.count(), n, toldWithin)
		case <-t.news:
			quiet.Reset(toldWithin)
		}
	}
	return nil
}

// once is a run on a farm of its own.
func (c *webhooks) once(ctx context.Context, hang bool) (out webhooksRun, err error) {
	told := newTellings()
	healthy, err := newReceiver(told.take)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, healthy.close()) }()
	hanging, err := newReceiver(nil)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, hanging.close()) }()
	farm, err := startChild(ctx, childOf{seats: c.Seats, pprof: c.Pprof, policy: loadPolicy(c.Seats), args: []string{
		"--webhook-allow-http", "--egress-allow", healthy.address(), "--egress-allow", hanging.address(),
	}})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, hanging.close(), farm.stop()) }() // a farm that drains waits for its last attempts
	criers, err := c.subscribe(ctx, farm, healthy, hanging, hang)
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, farm.log())
	}
	host, err := hostOf(farm.url)
	if err != nil {
		return out, err
	}
	s := &submitter{host: host, criers: criers}
	if err := c.evenly(ctx, farm, s, told, &out); err != nil {
		return out, err
	}
	if c.Burst > 0 {
		c.atOnce(ctx, s, told, &out)
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	out.Delivered, out.Again, out.Broken, out.Refused = len(told.seen), told.again, len(told.broken)+len(s.odd), s.refused
	out.Missing, out.HangedSent = out.Expected-out.Delivered, int(hanging.hung.Load())
	for _, what := range append(told.broken, s.odd...)[:min(10, out.Broken)] {
		fmt.Fprintln(os.Stderr, what)
	}
	if out.Missing != 0 || out.Broken > 0 || hang && c.Hang > 0 && out.HangedSent == 0 {
		return out, fmt.Errorf("messages are not what they must be: %d of %d arrived, %d were broken", out.Delivered, out.Expected, out.Broken)
	}
	return out, ctx.Err()
}

// evenly measures latency, and the processor time that a message takes.
func (c *webhooks) evenly(ctx context.Context, farm *child, s *submitter, told *tellings, out *webhooksRun) error {
	before, err := cpuOf(farm.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.drive(ctx, c.Clients, int(c.Rate*c.Duration.Seconds()), c.Rate)
	out.Expected = s.expected()
	if err := told.until(ctx, out.Expected); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	after, err := cpuOf(farm.cmd.Process.Pid)
	if err != nil {
		return err
	}
	for name := range after {
		out.CPU += float64((after[name] - before[name]).Microseconds()) / float64(max(told.count(), 1))
	}
	out.Latency, _ = told.taken()
	return nil
}

// atOnce measures throughput.
func (c *webhooks) atOnce(ctx context.Context, s *submitter, told *tellings, out *webhooksRun) {
	before, began := told.count(), time.Now()
	s.drive(ctx, c.Clients, c.Burst, 0)
	out.JobsPerS = float64(c.Burst) / time.Since(began).Seconds()
	out.Expected = s.expected()
	if err := told.until(ctx, out.Expected); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	n := told.count() - before
	var within time.Duration
	if out.Burst, within = told.taken(); within > 0 {
		out.PerS = float64(n) / within.Seconds()
	}
}

// subscribe makes the accounts and their endpoints. Those that hang are spread
// over the accounts.
func (c *webhooks) subscribe(ctx context.Context, farm *child, healthy, hanging *receiver, hang bool) ([]*crier, error) {
	criers := make([]*crier, c.Accounts)
	for i := range criers {
		key, err := farm.account(ctx, fmt.Sprint("crier ", i), "default")
		if err != nil {
			return nil, err
		}
		criers[i] = &crier{key: key, jobs: map[string]bool{}}
	}
	host, err := hostOf(farm.url)
	if err != nil {
		return nil, err
	}
	for n := range c.Endpoints {
		cr, place, hung := criers[n%c.Accounts], fmt.Sprint(n), n < c.Hang
		at := healthy.url(place, false)
		if hung {
			if !hang {
				continue
			}
			at = hanging.url(place, true)
		} else {
			cr.healthy = append(cr.healthy, place)
		}
		if err := subscribe(ctx, host, cr.key, at); err != nil {
			return nil, err
		}
	}
	return criers, nil
}

// subscribe makes an endpoint that is told of every end.
func subscribe(ctx context.Context, host, key, url string) error {
	owner := &conn{host: host, key: key}
	defer owner.close()
	status, text, err := owner.json(ctx, http.MethodPost, "/v1/webhook-endpoints", map[string]any{
		"url": url, "events": []string{"job.succeeded", "job.failed", "job.canceled", "job.expired"},
	})
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("an endpoint: %d %s", status, text)
	}
	return err
}

// submitter submits jobs and does not look at them again.
type submitter struct {
	host   string
	criers []*crier

	mu      sync.Mutex
	next    int
	refused int
	odd     []string
}

// drive submits n jobs, of one account after the other, evenly at a rate or, if
// that is 0, as fast as they are taken.
func (s *submitter) drive(ctx context.Context, clients, n int, rate float64) {
	due := make(chan int)
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			conns := map[*crier]*conn{}
			defer func() {
				for _, c := range conns {
					c.close()
				}
			}()
			for i := range due {
				cr := s.criers[i%len(s.criers)]
				if conns[cr] == nil {
					conns[cr] = &conn{host: s.host, key: cr.key}
				}
				s.submit(ctx, cr, conns[cr], i)
			}
		})
	}
	began := time.Now()
	for i := 0; i < n && ctx.Err() == nil; i++ {
		if rate > 0 {
			sleep(ctx, time.Until(began.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
		}
		due <- s.next
		s.next++
	}
	close(due)
	running.Wait()
}

// submit submits one job until it is accepted.
func (s *submitter) submit(ctx context.Context, cr *crier, c *conn, n int) {
	body := fmt.Appendf(nil, `{"url":"https://example.com/%d"}`, n)
	for ctx.Err() == nil {
		resp, text, err := c.do(ctx, answerWithin, http.MethodPost, "/v1/jobs", body)
		if err != nil {
			s.odds("POST /v1/jobs: %v", err)
			return
		}
		a, err := read(resp, text)
		switch {
		case err == nil && resp.StatusCode == http.StatusAccepted:
			cr.mu.Lock()
			cr.jobs[a.ID] = true
			cr.mu.Unlock()
			return
		case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
			s.mu.Lock()
			s.refused++
			s.mu.Unlock()
			sleep(ctx, 100*time.Millisecond)
		default:
			s.odds("POST /v1/jobs: %s %s", resp.Status, text)
			return
		}
	}
}

func (s *submitter) odds(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = append(s.odd, fmt.Sprintf(format, args...))
}

// expected is how many messages there must be: one for each job that was
// accepted and each healthy endpoint of its account.
func (s *submitter) expected() (n int) {
	for _, cr := range s.criers {
		cr.mu.Lock()
		n += len(cr.jobs) * len(cr.healthy)
		cr.mu.Unlock()
	}
	return n
}
