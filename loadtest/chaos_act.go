package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/loadtest/audit"
)

const (
	// backWithin is how long the farm may take to end a job after an act. It
	// is no promise of the farm's: the next act comes then in any case.
	backWithin = 30 * time.Second
	// armedWithin is how long an act waits for the moment that it is meant for.
	armedWithin = 3 * time.Second
	// sentFor is how long a submission must be on its way to count as one that
	// NATS keeps waiting: answers take a few milliseconds otherwise.
	sentFor = 25 * time.Millisecond
)

// director does to an arena what the plan says, and keeps the kills.
type director struct {
	arena *arena
	crowd *crowd
	watch *watch
	say   func(string, ...any)

	mu    sync.Mutex
	kills []audit.Kill
	held  sync.WaitGroup // things that are still to be let go
}

// perform does all acts, in order.
func (d *director) perform(ctx context.Context, acts []act) error {
	for i, a := range acts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := d.crowd.ended()
		began := time.Now()
		did := d.one(ctx, a)
		took := time.Since(began)
		back := d.progress(ctx, before+3)
		d.whole(ctx)
		d.say("%3d/%d %-24s %s (%.1fs, at work again after %.1fs%s)", i+1, len(acts), a.what, did, took.Seconds(), time.Since(began).Seconds(),
			map[bool]string{false: ": NOT YET"}[back])
		sleep(ctx, a.gap)
	}
	d.held.Wait()
	return nil
}

// progress waits until so many jobs have been read to their ends.
func (d *director) progress(ctx context.Context, ends int) bool {
	deadline := time.Now().Add(backWithin)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		if d.crowd.ended() >= ends {
			return true
		}
		sleep(ctx, 10*time.Millisecond)
	}
	return false
}

// whole waits until every process runs and every replica takes jobs, so that
// the next act finds its victim alive.
func (d *director) whole(ctx context.Context) {
	d.until(ctx, 10*time.Second, func() bool {
		for _, p := range d.arena.parts {
			if !p.running() {
				return false
			}
		}
		for _, host := range d.arena.hosts {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			status, err := ask(ctx, http.MethodGet, host, "/readyz", nil, nil)
			cancel()
			if err != nil || status != http.StatusOK {
				return false
			}
		}
		return true
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// one does one act and says to whom.
func (d *director) one(ctx context.Context, a act) string {
	api := d.arena.byName[d.arena.apis[a.who%len(d.arena.apis)]]
	worker := func() *part { return d.arena.byName[fmt.Sprintf("worker%d", 1+a.who%3)] }
	switch a.what {
	case "up":
		return d.kill(ctx, d.arena.byName["up"], 0)
	case "publish at the api":
		d.pile(ctx, api.name)
		defer d.let("nats")
		return d.kill(ctx, api, a.rest)
	case "append at the leader":
		d.pile(ctx, "")
		defer d.let("nats")
		return d.kill(ctx, d.leader(), a.rest)
	case "accepted at the api":
		return d.undelivered(ctx, a, api, api, true)
	case "refused at the api":
		return d.undelivered(ctx, a, api, api, false)
	case "accepted at the leader":
		return d.undelivered(ctx, a, api, nil, true)
	case "refused at the leader":
		return d.undelivered(ctx, a, api, nil, false)
	case "told at the api":
		return d.tellingAt(ctx, a, api)
	case "fed at the api":
		return d.feedingAt(ctx, a)
	case "batch taken at the api":
		return d.checkingAt(ctx, a)
	case "finished at the leader":
		n := -1
		d.watch.until(ctx, armedWithin, func() bool {
			if n < 0 {
				n = d.watch.ended
			}
			return d.watch.ended > n
		})
		return d.kill(ctx, d.leader(), a.rest)
	case "upload":
		d.pause("s3")
		defer d.let("s3")
		w := d.uploading(ctx, 60*time.Millisecond)
		if w == nil {
			w = worker()
		}
		return d.kill(ctx, w, a.rest)
	case "worker cut off":
		d.pause("s3")
		w := d.uploading(ctx, 30*time.Millisecond)
		if w == nil {
			w = worker()
		}
		d.pause(w.name)
		d.let("s3")
		d.later(max(a.hold, 14*time.Second), func() { d.let(w.name) }) // past its lease: it finishes late
		return w.name
	case "leader pauses":
		p := d.leader()
		d.pause(p.name)
		sleep(ctx, a.hold)
		d.let(p.name)
		return fmt.Sprintf("%s for %s", p.name, a.hold.Round(time.Millisecond))
	case "both schedulers":
		p := d.leader()
		other := d.standby(p)
		return d.kill(ctx, p, a.rest) + " and " + d.kill(ctx, other, a.rest)
	case "leader":
		return d.kill(ctx, d.leader(), a.rest)
	case "standby":
		return d.kill(ctx, d.standby(d.leader()), a.rest)
	case "worker":
		return d.kill(ctx, worker(), a.rest)
	case "api":
		return d.kill(ctx, api, a.rest)
	case "nats", "postgres", "s3":
		return d.kill(ctx, d.arena.byName[a.what], a.rest)
	case "postgres away", "s3 away":
		name := map[string]string{"postgres away": "postgres", "s3 away": "s3"}[a.what]
		defer sleep(ctx, a.hold)
		return d.kill(ctx, d.arena.byName[name], a.hold) + fmt.Sprintf(" for %s", a.hold.Round(time.Millisecond))
	case "disk full":
		return d.fill(ctx, a)
	}
	return "does not know how"
}

// kill ends a process and notes what the auditor needs of the moment.
func (d *director) kill(ctx context.Context, p *part, rest time.Duration) string {
	at, ok := p.kill(rest)
	if !ok {
		return p.name + " was not running"
	}
	k := audit.Kill{At: at, Kind: p.kind, Name: p.name, Address: p.address}
	if p.kind == "scheduler" {
		k.Projected, k.Known = d.projected(ctx)
	}
	d.mu.Lock()
	d.kills = append(d.kills, k)
	d.mu.Unlock()
	return p.name
}

// projected is how far the archive is. The leader is dead: what it had sent
// may still commit, within moments.
func (d *director) projected(ctx context.Context) (uint64, bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, d.arena.databaseURL)
	if err != nil {
		return 0, false
	}
	defer c.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	var seq int64
	err = c.QueryRow(ctx, `SELECT ledger_seq FROM projection WHERE shard = 0`).Scan(&seq)
	return uint64(seq), err == nil
}

// leader is who the ledger says leads.
func (d *director) leader() *part {
	d.watch.mu.Lock()
	address := d.watch.leader
	d.watch.mu.Unlock()
	for _, p := range d.arena.parts {
		if p.address != "" && p.address == address {
			return p
		}
	}
	return d.arena.byName["scheduler1"]
}

func (d *director) standby(leader *part) *part {
	if leader.name == "scheduler1" {
		return d.arena.byName["scheduler2"]
	}
	return d.arena.byName["scheduler1"]
}

func (d *director) pause(name string) { d.arena.byName[name].signal(syscall.SIGSTOP) }
func (d *director) let(name string)   { d.arena.byName[name].signal(syscall.SIGCONT) }

// later does something while the next acts happen.
func (d *director) later(after time.Duration, fn func()) {
	d.held.Add(1)
	time.AfterFunc(after, func() { defer d.held.Done(); fn() })
}

// pile stops NATS and waits until a submission through this replica, or any,
// is on its way to it.
func (d *director) pile(ctx context.Context, api string) {
	since := time.Now()
	d.pause("nats")
	d.until(ctx, time.Second, func() bool { // a standby is as patient
		return d.crowd.flying(api, func(s *audit.Submission) bool { return s.Sent.After(since) && time.Since(s.Sent) > sentFor }) > 0
	})
}

func (d *director) until(ctx context.Context, within time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(within)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		if condition() {
			return true
		}
		sleep(ctx, 3*time.Millisecond)
	}
	return false
}

// undelivered kills the victim, or the leader, while the answer to a submission
// that is decided cannot reach its client: the leader stands still until a few
// records wait for it, and then the replica that they came through does.
func (d *director) undelivered(ctx context.Context, a act, api, victim *part, accepted bool) string {
	hit := false
	for try := 0; try < 6 && !hit && ctx.Err() == nil; try++ {
		leader := d.leader()
		d.pause(leader.name)
		d.until(ctx, 700*time.Millisecond, func() bool { // a standby is patient for a second
			return d.crowd.flying(api.name, d.stored) > 3+a.who%3
		})
		d.pause(api.name)
		d.let(leader.name)
		hit = d.watch.until(ctx, 500*time.Millisecond, func() bool {
			return d.crowd.flying(api.name, func(s *audit.Submission) bool {
				known, taken := d.watch.decided(s.Name)
				return known && taken == accepted
			}) > 0
		})
		if !hit {
			d.let(api.name)
			sleep(ctx, 50*time.Millisecond)
		}
	}
	if victim == nil {
		victim = d.leader()
	}
	defer d.let(api.name)
	return d.kill(ctx, victim, a.rest) + map[bool]string{false: ", not in time"}[hit]
}

// stored: the submission's record is in JOBS.
func (d *director) stored(s *audit.Submission) bool {
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	return d.watch.seqs[s.Name] != 0
}

// uploading waits for a worker that has had a lease for so long, and got it while
// S3 stood still: a seat renders nothing, so it is uploading.
func (d *director) uploading(ctx context.Context, held time.Duration) *part {
	name, since := "", time.Now()
	d.watch.until(ctx, armedWithin, func() bool {
		for _, l := range d.watch.leases {
			if l.since.After(since) && time.Since(l.since) > held {
				name = l.worker
				return true
			}
		}
		return false
	})
	return d.arena.byName[name]
}

// fill fills the disk under NATS for a while, and starts NATS again once there is room:
// a server that met a full disk does not recover by itself.
func (d *director) fill(ctx context.Context, a act) string {
	if d.arena.ballast == "" {
		return "left out: there is no small disk"
	}
	path, err := fillDisk(d.arena.ballast)
	if err != nil {
		d.say("the disk could not be filled: %v", err)
	}
	sleep(ctx, a.hold)
	if err := os.Remove(path); err != nil {
		d.say("the ballast stays: %v", err)
	}
	return d.kill(ctx, d.arena.byName["nats"], 0) + fmt.Sprintf(" after %s", a.hold.Round(time.Millisecond))
}
