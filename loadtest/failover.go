package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	crand "crypto/rand"
)

// failover ends the leading scheduler again and again under a steady load, and
// measures how long nobody is served.
type failover struct {
	Kills      int           `default:"10" help:"How often the leader is ended."`
	Planned    bool          `help:"End it with SIGTERM, so that it hands over, instead of with SIGKILL."`
	Clients    int           `default:"16" help:"Connections, each with one job at a time."`
	Think      time.Duration `default:"50ms" help:"Rest of a client between two jobs."`
	Pause      time.Duration `default:"2s" help:"Load between two kills, at least; up to half as long again is added."`
	Schedulers int           `default:"2" help:"The leader and its standbys."`
	Seats      int           `default:"64" help:"Null seats of the worker."`
	Verbose    bool          `help:"Say after each kill what it took, on standard error."`
	Logs       string        `help:"Folder for the tiers' logs. Empty: they are not kept." placeholder:"DIR"`
}

const (
	// impatient is how soon a refused client of this run tries again, much
	// sooner than it is told to: so the moment of recovery is seen.
	impatient = 50 * time.Millisecond
	// recoverWithin is when a kill has failed for good.
	recoverWithin = 60 * time.Second
)

// failoverReport is one line of JSON.
type failoverReport struct {
	Kills   int  `json:"kills"`
	Planned bool `json:"planned"`
	Clients int  `json:"clients"`
	// From the signal to the 202 of a request that was begun after it, and to
	// the end of a job that was; for a planned stop the old leader may still
	// have given the first.
	FirstAccepted quantiles `json:"first_202_ms"`
	FirstFinished quantiles `json:"first_finished_ms"`
	// The longest time between two 202s from the signal until the farm was
	// whole again, and in the second before the signal.
	Gap      quantiles `json:"gap_ms"`
	Baseline quantiles `json:"gap_before_ms"`
	// From the signal to what the tiers say in their logs.
	Leading quantiles `json:"leading_ms"`
	API     quantiles `json:"api_connected_ms"`
	Worker  quantiles `json:"worker_connected_ms"`

	// The machine meanwhile: one synced write of 4 KiB, and the lateness of timers.
	Sync quantiles `json:"machine_sync_ms"`
	Late quantiles `json:"machine_late_ms"`

	Accepted       int            `json:"accepted"`
	Refused        map[string]int `json:"refused"` // answers of 429 and 503 by code; each was tried again
	RefusedPerKill float64        `json:"refused_per_kill"`
	Broken         int            `json:"broken"` // requests without an answer
	Lost           int            `json:"lost"`
	Duplicated     int            `json:"duplicated"`
	Wrong          int            `json:"wrong"` // also jobs that took more than one attempt
}

// moment is one thing that a client saw.
type moment struct {
	what  string    // accepted, finished
	began time.Time // the request, or the job
	at    time.Time
}

// tape gathers what the clients see.
type tape struct {
	mu      sync.Mutex
	moments []moment      // guarded by mu
	more    chan struct{} // capacity 1: something was added
}

func (t *tape) add(m moment) {
	t.mu.Lock()
	t.moments = append(t.moments, m)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// cut forgets what was before.
func (t *tape) cut(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := 0
	for i < len(t.moments) && t.moments[i].at.Before(before) {
		i++
	}
	t.moments = append([]moment(nil), t.moments[i:]...)
}

// first is the first moment of its kind whose job was begun after since.
func (t *tape) first(what string, since time.Time) (moment, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.moments {
		if m.what == what && m.began.After(since) {
			return m, true
		}
	}
	return moment{}, false
}

// gap is the longest time without a 202 between from and to.
func (t *tape) gap(from, to time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, m := range t.moments {
		if m.what != "accepted" {
			continue
		}
		if m.at.Before(from) {
			continue
		}
		if m.at.After(to) {
			break
		}
		longest, last = max(longest, m.at.Sub(last)), m.at
	}
	return max(longest, to.Sub(last))
}

// series is what was measured, kill by kill.
type series struct {
	accepted, finished, gap, baseline, leading, api, worker []time.Duration
}

// Run starts a farm of several processes, ends its leaders and audits it.
func (c *failover) Run(ctx context.Context) (err error) {
	if c.Kills < 1 || c.Clients < 1 || c.Schedulers < 1 || c.Pause < time.Second {
		return errors.New("--kills, --clients and --schedulers must be above 0, --pause at least 1s")
	}
	farm, err := startCluster(ctx, c.Logs, c.Schedulers, c.Seats)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, farm.stop()) }()
	tape := &tape{more: make(chan struct{}, 1)}
	l := &load{
		host: farm.host, key: farm.key, run: strings.ToLower(crand.Text()[:10]), most: 1 << 40,
		stop: time.Now().Add(24 * time.Hour), to: time.Now().Add(24 * time.Hour), think: c.Think, impatient: impatient, once: true,
		saw: func(what string, began time.Time) { tape.add(moment{what: what, began: began, at: time.Now()}) },
	}
	m := new(machine)
	watching, endWatch := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- m.watch(watching, farm.dir) }()
	defer func() { endWatch(); err = errors.Join(err, <-watched) }()
	clients := make([]*client, c.Clients)
	loading, endLoad := context.WithCancel(ctx)
	defer endLoad()
	var running sync.WaitGroup
	for i := range clients {
		clients[i] = l.client()
		running.Go(func() { clients[i].loop(loading) })
	}
	var s series
	for n := 1; n <= c.Kills; n++ {
		if err := c.once(ctx, farm, tape, m, &s, n); err != nil {
			endLoad()
			running.Wait()
			return fmt.Errorf("kill %d: %w", n, err)
		}
	}
	l.next.Store(l.most) // each client reads the end of its last job
	running.Wait()

	all := merge(clients)
	out := failoverReport{
		Kills: c.Kills, Planned: c.Planned, Clients: c.Clients,
		FirstAccepted: summarise(s.accepted), FirstFinished: summarise(s.finished), Gap: summarise(s.gap), Baseline: summarise(s.baseline),
		Leading: summarise(s.leading), API: summarise(s.api), Worker: summarise(s.worker),
		Accepted: len(all.ids), Refused: all.refused, Broken: all.broken,
	}
	out.Sync, out.Late = m.summary()
	for _, n := range all.refused {
		out.RefusedPerKill += float64(n) / float64(c.Kills)
	}
	watch := &conn{host: farm.host, key: farm.key}
	defer watch.close()
	out.Lost, out.Duplicated, out.Wrong, err = watch.compare(ctx, l.run, all)
	if err != nil {
		return err
	}
	if err := report(out); err != nil {
		return err
	}
	odd := slices.Concat(all.lost, all.wrong, all.breaks)
	for _, what := range odd[:min(10, len(odd))] {
		fmt.Fprintln(os.Stderr, what)
	}
	if out.Lost+out.Duplicated+out.Wrong+out.Broken > 0 {
		return errors.New("answers are not what they must be")
	}
	return nil
}

// once ends the leader, waits until the farm serves again, and starts the
// scheduler anew as a standby.
func (c *failover) once(ctx context.Context, farm *cluster, tape *tape, m *machine, s *series, n int) error {
	leader, err := farm.settle(ctx, c.Pause+rand.N(c.Pause/2))
	if err != nil {
		return err
	}
	victim := farm.schedulers[leader]
	tape.cut(time.Now().Add(-2 * time.Second))
	told := time.Now()
	sig := syscall.SIGKILL
	if c.Planned {
		sig = syscall.SIGTERM
	}
	if err := victim.cmd.Process.Signal(sig); err != nil {
		return err
	}
	patience := time.NewTimer(recoverWithin)
	defer patience.Stop()
	marks := map[string]time.Duration{}
	for {
		accepted, served := tape.first("accepted", told)
		finished, whole := tape.first("finished", told)
		if served && whole && marks["leading"] > 0 && marks["connected to the leading scheduler"] > 0 && marks["stream to the leader"] > 0 {
			settled := time.Now()
			s.accepted = append(s.accepted, accepted.at.Sub(told))
			s.finished = append(s.finished, finished.at.Sub(told))
			s.leading = append(s.leading, marks["leading"])
			s.api = append(s.api, marks["connected to the leading scheduler"])
			s.worker = append(s.worker, marks["stream to the leader"])
			s.gap = append(s.gap, tape.gap(told, settled))
			s.baseline = append(s.baseline, tape.gap(told.Add(-time.Second), told))
			if c.Verbose {
				sync, late := m.worst(told.Add(-time.Second))
				fmt.Fprintf(os.Stderr, "%d: 202 after %s, an end after %s, gap %s (before %s), %v; the machine: a sync of %s, a timer late by %s\n",
					n, accepted.at.Sub(told), finished.at.Sub(told), s.gap[len(s.gap)-1], s.baseline[len(s.baseline)-1], marks, sync, late)
			}
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("not served within %s: %v", recoverWithin, marks)
		case <-tape.more:
		case l := <-farm.lines:
			switch l.Msg {
			case "leading":
				farm.leading = strings.TrimPrefix(l.from.name, "scheduler-")
				marks[l.Msg] = l.at.Sub(told)
			case "connected to the leading scheduler", "stream to the leader", "stopping", "reign closed", "handed over":
				marks[l.Msg] = l.at.Sub(told)
			}
		}
	}
	<-victim.ended
	if err := farm.startScheduler(leader); err != nil {
		return err
	}
	// A standby that still reads the ledger is none yet.
	for c.Schedulers > 1 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("the scheduler that was started anew does not stand by within %s", recoverWithin)
		case l := <-farm.lines:
			switch {
			case l.Msg == "leading":
				farm.leading = strings.TrimPrefix(l.from.name, "scheduler-")
			case l.Msg == "standing by" && l.from == farm.schedulers[leader]:
				return nil
			}
		}
	}
	return nil
}

// settle reads the tiers' logs for a while and says where the leader is.
func (f *cluster) settle(ctx context.Context, pause time.Duration) (leader string, err error) {
	over := time.NewTimer(pause)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case l := <-f.lines:
			if l.Msg == "leading" {
				f.leading = strings.TrimPrefix(l.from.name, "scheduler-")
			}
		case <-over.C:
			if f.leading == "" {
				return "", errors.New("no scheduler said that it leads")
			}
			return f.leading, nil
		}
	}
}
