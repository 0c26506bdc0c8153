package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tintype/tintype/loadtest/audit"
)

// chaos kills the parts of a farm while it works. What happens follows from the
// seed; what it proves is the auditor's to say.
type chaos struct {
	Seeds   []uint64      `name:"seed" default:"1" help:"Seeds, one run each. The same seed has the same schedule."`
	Jobs    uint64        `default:"5000" help:"At least so many jobs a run."`
	Kills   int           `default:"100" help:"At least so many kill -9 a run."`
	Clients int           `default:"24" help:"Clients that submit jobs."`
	Most    time.Duration `default:"30s" help:"The longest that anything stands still or stays away."`
	Windows int           `default:"10" help:"How many kills must fall into each window."`
	Results string        `help:"File that each run's result is appended to; a seed that is in it, without violations, is left out." placeholder:"FILE"`
	Keep    bool          `help:"Keep the folders of the runs."`
	Dir     string        `help:"Where they are made. Empty: the system's folder for temporary files." placeholder:"DIR"`
}

// chaosResult is one line of the results.
type chaosResult struct {
	Seed       uint64         `json:"seed"`
	Jobs       uint64         `json:"jobs"`
	Kills      int            `json:"kills"`
	Took       string         `json:"took"`
	Submitted  int            `json:"submitted"`
	Missed     []string       `json:"missed"` // windows with too few kills
	Odd        []string       `json:"odd"`    // answers that no client should get
	Violations []string       `json:"violations"`
	Windows    map[string]int `json:"windows"`
	Cluster    audit.Report   `json:"cluster"`
	Up         *audit.Report  `json:"up,omitempty"`
}

func (r *chaosResult) clean() bool { return len(r.Violations)+len(r.Missed)+len(r.Odd) == 0 }

// Run runs every seed that the results do not hold yet.
func (c *chaos) Run(ctx context.Context) error {
	done, err := c.done()
	if err != nil {
		return err
	}
	var wrong []error
	for _, seed := range c.Seeds {
		if done[seed] {
			fmt.Fprintf(os.Stderr, "seed %d is in %s\n", seed, c.Results)
			continue
		}
		out, err := c.seed(ctx, seed)
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if err := errors.Join(report(out), c.append(out)); err != nil {
			return err
		}
		if !out.clean() {
			wrong = append(wrong, fmt.Errorf("seed %d: %d violations, %d odd answers, missed %v", seed, len(out.Violations), len(out.Odd), out.Missed))
		}
	}
	return errors.Join(wrong...)
}

// done lists the seeds whose clean result, of this size, is in the file.
func (c *chaos) done() (map[uint64]bool, error) {
	done := map[uint64]bool{}
	if c.Results == "" {
		return done, nil
	}
	f, err := os.Open(c.Results)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var r chaosResult
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return done, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", c.Results, err)
		case r.clean() && r.Jobs >= c.Jobs && r.Kills >= c.Kills:
			done[r.Seed] = true
		}
	}
}

func (c *chaos) append(r *chaosResult) error {
	if c.Results == "" {
		return nil
	}
	f, err := os.OpenFile(c.Results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(r), f.Close())
}

// seed is one run: most of it on a cluster, a tenth on a farm in one process.
func (c *chaos) seed(ctx context.Context, seed uint64) (_ *chaosResult, err error) {
	fmt.Fprintf(os.Stderr, "seed %d: %d jobs, %d kills\n", seed, c.Jobs, c.Kills)
	began := time.Now()
	dir, err := os.MkdirTemp(c.Dir, "tintype-chaos-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres runs as another user and has to pass
		return nil, err
	}
	ups := c.Kills / 10
	cluster, odd, submitted, err := c.inCluster(ctx, filepath.Join(dir, "cluster"), seed, c.Kills-ups, c.Jobs*9/10)
	if err != nil {
		return nil, err
	}
	out := &chaosResult{
		Seed: seed, Submitted: submitted, Odd: odd, Missed: []string{}, Violations: cluster.Violations, Windows: cluster.Windows, Cluster: cluster,
	}
	all := []audit.Report{cluster}
	if ups > 0 {
		up, odd, submitted, err := c.inUp(ctx, filepath.Join(dir, "up"), seed, ups, c.Jobs/10)
		if err != nil {
			return nil, err
		}
		out.Submitted, out.Odd, out.Up, all = out.Submitted+submitted, append(out.Odd, odd...), &up, append(all, up)
	}
	out.Windows, out.Violations = map[string]int{}, []string{}
	for _, r := range all {
		out.Violations = append(out.Violations, r.Violations...)
		out.Jobs += uint64(r.Accepted)
		for name, n := range r.Windows {
			out.Windows[name] += n
		}
		for _, n := range r.Kills {
			out.Kills += n
		}
	}
	for _, name := range audit.Windows {
		if out.Windows[name] < c.Windows {
			out.Missed = append(out.Missed, name)
		}
	}
	out.Took = time.Since(began).Round(time.Second).String()
	if c.Keep || !out.clean() {
		fmt.Fprintln(os.Stderr, "its folder is kept:", dir)
		return out, nil
	}
	return out, os.RemoveAll(dir)
}

// say prints what happens, as it happens.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// inCluster runs the cluster's share.
func (c *chaos) inCluster(ctx context.Context, dir string, seed uint64, kills int, jobs uint64) (rep audit.Report, odd []string, submitted int, err error) {
	a, err := newArena(dir, chaosLength, chaosPlans(jobs))
	if err != nil {
		return rep, nil, 0, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	acts := plan(seed, kills, c.Most)
	disk := false
	for _, act := range acts {
		disk = disk || act.what == "disk full"
	}
	if err := a.startCluster(ctx, disk); err != nil {
		return rep, nil, 0, err
	}
	w := newWatch(a.natsURL)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.run(watching) }) // what it lacks is a violation
	defer wg.Wait()
	defer stop()

	d := &director{arena: a, crowd: newCrowd(a, seed, "c"), watch: w, say: say}
	if err := c.crowded(ctx, d, acts, jobs); err != nil {
		return rep, nil, 0, err
	}
	if err := a.filed(ctx, w); err != nil {
		return rep, nil, 0, err
	}
	// All of it once more, from the leader that folds what is left of the
	// ledger, and from the archive.
	_, _ = d.leader().kill(0)
	_, _ = d.standby(d.leader()).kill(0)
	d.crowd.reread(ctx, int(min(300, jobs/4)))
	usages, err := a.usages(ctx)
	if err != nil {
		return rep, nil, 0, err
	}
	if err := errors.Join(a.filed(ctx, w), a.told(ctx)); err != nil {
		return rep, nil, 0, err
	}
	stop()
	wg.Wait()
	if w.lost != nil {
		return rep, nil, 0, w.lost
	}
	run := d.run()
	run.Records, run.Frames, run.Usages = w.records, w.frames, usages
	if err := a.gather(ctx, run); err != nil {
		return rep, nil, 0, err
	}
	return run.Check(), d.odd(), len(run.Submissions), nil
}

// inUp runs the share of the farm in one process.
func (c *chaos) inUp(ctx context.Context, dir string, seed uint64, kills int, jobs uint64) (rep audit.Report, odd []string, submitted int, err error) {
	a, err := newArena(dir, chaosLength, chaosPlans(jobs))
	if err != nil {
		return rep, nil, 0, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := a.startUp(ctx); err != nil {
		return rep, nil, 0, err
	}
	d := &director{arena: a, crowd: newCrowd(a, seed+1<<32, "u"), watch: newWatch(""), say: say}
	if err := c.crowded(ctx, d, planUp(seed, kills), jobs); err != nil {
		return rep, nil, 0, err
	}
	metrics := &conn{host: a.hosts[0]}
	defer metrics.close()
	if err := metrics.projected(ctx); err != nil {
		return rep, nil, 0, err
	}
	usages, err := a.usages(ctx)
	if err := errors.Join(err, metrics.projected(ctx), a.told(ctx), a.byName["up"].stop(stopWithin)); err != nil {
		return rep, nil, 0, err
	}
	if err := a.openStores(ctx); err != nil {
		return rep, nil, 0, err
	}
	w := newWatch(a.natsURL)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.run(watching) }) // what it lacks is a violation
	defer wg.Wait()
	defer stop()
	if err := a.filed(ctx, w); err != nil {
		return rep, nil, 0, err
	}
	run := d.run()
	w.mu.Lock()
	run.Records, run.Frames, run.Usages = w.records, w.frames, usages
	lost := w.lost
	w.mu.Unlock()
	if lost != nil {
		return rep, nil, 0, lost
	}
	if err := a.gather(ctx, run); err != nil {
		return rep, nil, 0, err
	}
	return run.Check(), d.odd(), len(run.Submissions), nil
}

// crowded has the clients work while the acts happen, until both are done.
func (c *chaos) crowded(ctx context.Context, d *director, acts []act, jobs uint64) error {
	intake, close := context.WithCancel(ctx)
	defer close()
	patient, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var wg sync.WaitGroup
	for range c.Clients {
		wg.Go(func() { d.crowd.work(intake, patient) })
	}
	wg.Go(func() { d.crowd.batches(intake, patient, int(min(max(jobs/10, 40), 2000))) })
	err := d.perform(ctx, acts)
	for err == nil && d.crowd.accepted() < jobs {
		sleep(ctx, 50*time.Millisecond)
		err = ctx.Err()
	}
	close()
	tooLong := time.AfterFunc(endWithin, giveUp) // what has no end by then is the auditor's
	wg.Wait()
	tooLong.Stop()
	return err
}

// odd is what should not have happened, beside what the auditor finds.
func (d *director) odd() []string {
	odd := d.crowd.odd
	for _, p := range d.arena.parts {
		if what := p.broke(); what != "" {
			odd = append(odd, what)
		}
	}
	return odd
}

// run is what the clients and the director know.
func (d *director) run() *audit.Run {
	run := &audit.Run{Rules: d.arena.rules, Kills: d.kills, Looks: d.crowd.looks}
	d.arena.hookTaken(run)
	run.Batches = d.crowd.uploads
	for _, s := range d.crowd.submissions {
		run.Submissions = append(run.Submissions, *s)
	}
	for _, p := range d.arena.parts {
		if p.kind == "scheduler" || p.kind == "up" {
			for _, at := range p.started() {
				run.Starts = append(run.Starts, audit.Start{At: at, Address: p.address})
			}
		}
	}
	return run
}
