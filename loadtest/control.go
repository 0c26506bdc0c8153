package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"
)

// control measures everything but rendering, in a closed loop of --clients or
// in an open one of --rate.
type control struct {
	Server   string        `help:"A running farm, http://HOST:PORT. Empty: one of our own, started for this run on a null renderer." placeholder:"URL"`
	Key      string        `env:"TINTYPE_KEY" help:"API key for --server." placeholder:"KEY"`
	PID      []int         `name:"pid" help:"Processes of --server whose processor time is counted, with all below them." placeholder:"PID"`
	Folder   string        `help:"Folder of --server's data: flushes of the disk under it are counted." placeholder:"DIR"`
	Clients  int           `default:"256" help:"Connections, each with one job at a time."`
	Rate     float64       `help:"Open loop: so many jobs a second are due, whether or not earlier ones have ended; latencies count from when a job was due. 0: closed loop." placeholder:"PER_SECOND"`
	Duration time.Duration `default:"20s" help:"Of the measured window."`
	WarmUp   time.Duration `name:"warm-up" default:"3s" help:"Load before the window."`
	Jobs     int64         `default:"2000000" help:"Most jobs of a run."`
	Seats    int           `default:"128" help:"Null seats of our own farm."`
	Upload   bool          `help:"Our own farm's seats store their picture; otherwise uploads are swallowed."`
	Pprof    string        `help:"Our own farm serves /debug/pprof here." placeholder:"HOST:PORT"`
}

// controlReport is one line of JSON.
type controlReport struct {
	Clients   int     `json:"clients"`
	Rate      float64 `json:"rate,omitempty"` // 0: closed loop
	DurationS float64 `json:"duration_s"`
	Upload    bool    `json:"upload"`
	JobsPerS  struct {
		Submitted float64 `json:"submitted"` // answered 202 within the window
		Finished  float64 `json:"finished"`  // terminal state read within the window
	} `json:"jobs_per_s"`
	Submit   quantiles `json:"submit_ms"`     // POST to 202
	EndToEnd quantiles `json:"end_to_end_ms"` // POST, or when it was due, to the terminal state
	// Processor time from the start of the window until the archive had every
	// end, over the jobs that ended in that time.
	CPU          float64            `json:"cpu_us_per_job"` // of the farm, all processes
	CPUByProcess map[string]float64 `json:"cpu_us_per_job_by_process"`
	GeneratorCPU float64            `json:"generator_cpu_us_per_job"`
	// Flush requests of the disk under the data folder, from every process of
	// the machine: at most so many are the farm's. Null: not countable.
	Flushes *float64 `json:"disk_flushes_per_job"`
	// Frames appended to the ledger, one synced write each. Null: no /metrics.
	Frames *float64 `json:"ledger_frames_per_job"`

	Accepted   int            `json:"accepted"` // of the whole run, their ends read
	Lost       int            `json:"lost"`     // accepted, and without an end or not in the archive
	Duplicated int            `json:"duplicated"`
	Wrong      int            `json:"wrong"` // ends that are not what they must be
	Broken     int            `json:"broken"`
	Refused    map[string]int `json:"refused"` // answers by code
}

// Run loads the farm, reads every end, and audits the archive.
func (c *control) Run(ctx context.Context) (err error) {
	if c.Clients < 1 || c.Duration <= 0 || c.WarmUp < 0 || c.Rate < 0 {
		return errors.New("--clients and --duration must be above 0, --rate and --warm-up not below")
	}
	var out controlReport
	if c.Server == "" {
		farm, startErr := startChild(ctx, childOf{seats: c.Seats, upload: c.Upload, pprof: c.Pprof})
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, farm.stop()) }()
		out, err = c.against(ctx, farm)
	} else {
		out, err = c.load(ctx, &load{key: c.Key})
	}
	return errors.Join(err, report(out))
}

// against loads a farm of our own.
func (c *control) against(ctx context.Context, farm *child) (controlReport, error) {
	c.Server, c.PID, c.Folder = farm.url, []int{farm.cmd.Process.Pid}, farm.dir
	picture := sha256.Sum256(nullPicture())
	return c.load(ctx, &load{key: farm.key, digest: hex.EncodeToString(picture[:])})
}

// load loads a farm. Its report is there also when answers were wrong.
func (c *control) load(ctx context.Context, l *load) (out controlReport, err error) {
	l.run, l.most = strings.ToLower(rand.Text()[:10]), c.Jobs
	if l.host, err = hostOf(c.Server); err != nil {
		return out, err
	}
	watch := &conn{host: l.host, key: l.key}
	defer watch.close()

	clients, before, err := c.drive(ctx, l, watch)
	if err != nil {
		return out, err
	}
	if err := watch.projected(ctx); err != nil && c.Folder != "" {
		return out, err
	}
	after, err := c.measure(ctx, watch)
	if err != nil {
		return out, err
	}
	all := merge(clients)
	out = c.report(all, before, after)
	if err := c.audit(ctx, watch, l.run, all, &out); err != nil {
		return out, err
	}
	for _, what := range append(all.lost, all.wrong...)[:min(10, len(all.lost)+len(all.wrong))] {
		fmt.Fprintln(os.Stderr, what)
	}
	if out.Lost+out.Duplicated+out.Wrong > 0 {
		return out, errors.New("answers are not what they must be")
	}
	return out, nil
}

// drive runs the clients to their end, and measures when the window begins.
func (c *control) drive(ctx context.Context, l *load, watch *conn) ([]*client, usage, error) {
	began := time.Now()
	l.from = began.Add(c.WarmUp)
	l.to = l.from.Add(c.Duration)
	l.stop = l.to
	if c.Rate > 0 {
		l.arrivals = make(chan time.Time, 1<<16)
	}
	clients := make([]*client, c.Clients)
	var running sync.WaitGroup
	for i := range clients {
		clients[i] = l.client()
		running.Go(func() { clients[i].loop(ctx) })
	}
	if l.arrivals != nil {
		running.Go(func() { l.arrive(ctx, began, c.Rate) })
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(l.from)):
	}
	before, err := c.measure(ctx, watch)
	running.Wait()
	return clients, before, errors.Join(err, ctx.Err())
}

// arrive makes jobs due at an even pace. When all clients are busy they wait
// in the channel, and their latency counts from when they were due.
func (l *load) arrive(ctx context.Context, began time.Time, rate float64) {
	defer close(l.arrivals)
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if due.After(l.stop) {
			return
		}
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		select {
		case l.arrivals <- due:
		case <-ctx.Done():
			return
		}
	}
}

// usage is what has been used up to a moment.
type usage struct {
	cpu       map[string]time.Duration
	generator time.Duration
	flushes   *int64
	frames    *float64
}

func (c *control) measure(ctx context.Context, watch *conn) (u usage, err error) {
	if frames, err := watch.number(ctx, "tintype_ledger_frames_total"); err == nil {
		u.frames = &frames
	}
	if n, ok := flushesOf(c.Folder); ok {
		u.flushes = &n
	}
	u.generator = ownCPU()
	u.cpu, err = cpuOf(c.PID...)
	return u, err
}

// merge joins what the clients saw.
func merge(clients []*client) *seen {
	all := &seen{ids: map[string]string{}, refused: map[string]int{}}
	for _, c := range clients {
		all.submitted += c.submitted
		all.finished += c.finished
		all.after += c.after
		all.broken += c.broken
		all.breaks = append(all.breaks, c.breaks...)
		all.submits = append(all.submits, c.submits...)
		all.wholes = append(all.wholes, c.wholes...)
		all.lost = append(all.lost, c.lost...)
		all.wrong = append(all.wrong, c.wrong...)
		maps.Copy(all.ids, c.ids)
		for code, n := range c.refused {
			all.refused[code] += n
		}
	}
	return all
}

func (c *control) report(all *seen, before, after usage) controlReport {
	out := controlReport{
		Clients: c.Clients, Rate: c.Rate, DurationS: c.Duration.Seconds(), Upload: c.Upload,
		Submit: summarise(all.submits), EndToEnd: summarise(all.wholes), CPUByProcess: map[string]float64{},
		Accepted: len(all.ids), Broken: all.broken, Refused: all.refused,
	}
	out.JobsPerS.Submitted = float64(all.submitted) / c.Duration.Seconds()
	out.JobsPerS.Finished = float64(all.finished) / c.Duration.Seconds()
	jobs := float64(max(all.after, 1))
	perJob := func(d time.Duration) float64 { return float64(d.Microseconds()) / jobs }
	for name, cpu := range after.cpu {
		out.CPUByProcess[name] = perJob(cpu - before.cpu[name])
		out.CPU += out.CPUByProcess[name]
	}
	out.GeneratorCPU = perJob(after.generator - before.generator)
	if before.flushes != nil && after.flushes != nil {
		n := float64(*after.flushes-*before.flushes) / jobs
		out.Flushes = &n
	}
	if before.frames != nil && after.frames != nil {
		n := (*after.frames - *before.frames) / jobs
		out.Frames = &n
	}
	return out
}

// audit compares what the clients were told with what the archive has.
func (c *control) audit(ctx context.Context, watch *conn, run string, all *seen, out *controlReport) error {
	var err error
	out.Lost, out.Duplicated, out.Wrong, err = watch.compare(ctx, run, all)
	return err
}
