package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tintype/tintype/loadtest/audit"
)

const (
	// hookAsk is how long the archive may take to say whether it has what a
	// message tells of. Then nobody knows, and the message counts as arrived.
	hookAsk = 2 * time.Second
	// toldAll is how long the outbox may take to be empty: longer than the claim
	// of a replica that is no more, and two attempts.
	toldAll = 2 * time.Minute
)

// hookLog is where a chaos run's messages go. It asks the archive, while each
// message waits for its answer, whether what it tells of is there.
type hookLog struct {
	*receiver

	mu      sync.Mutex
	archive *pgxpool.Pool // nil: there is none to ask
	seen    []audit.Hook
	places  map[string]audit.Place
	hold    chan struct{} // closed to let what is being held go; nil: nothing is
	held    int           // messages that are, since hold was made
}

func newHookLog() (*hookLog, error) {
	l := &hookLog{places: map[string]audit.Place{}}
	var err error
	l.receiver, err = newReceiver(l.take)
	return l, err
}

// ask has the archive asked from now on.
func (l *hookLog) ask(ctx context.Context, url string) error {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.archive = pool
	return nil
}

func (l *hookLog) take(h hooked) {
	l.mu.Lock()
	archive, hold := l.archive, l.hold
	l.mu.Unlock()
	out := audit.Hook{Place: h.place, ID: h.id, Type: h.kind, Subject: h.subject, At: h.at, Broken: h.broken}
	if archive != nil && h.subject != "" {
		out.Filed, out.Asked = l.filed(archive, h.subject)
	}
	l.mu.Lock()
	l.seen = append(l.seen, out)
	if hold != nil {
		l.held++
	}
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

// filed reports whether the archive has the end of a job or a batch, and
// whether it said so at all.
func (l *hookLog) filed(archive *pgxpool.Pool, subject string) (there, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), hookAsk)
	defer cancel()
	const query = `
SELECT EXISTS (SELECT FROM jobs WHERE id = $1)
    OR EXISTS (SELECT FROM batches WHERE id = $1 AND (finished_at IS NOT NULL OR pass > 1))`
	err := archive.QueryRow(ctx, query, subject).Scan(&there)
	return there, err == nil
}

// holding keeps every message that comes without an answer, until release.
func (l *hookLog) holding() (release func()) {
	hold := make(chan struct{})
	l.mu.Lock()
	l.hold, l.held = hold, 0
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		l.hold = nil
		l.mu.Unlock()
		close(hold)
	}
}

func (l *hookLog) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

func (l *hookLog) stop() error {
	err := l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.archive != nil {
		l.archive.Close()
	}
	return err
}

// listen has every account told of everything that happens to it, and of some
// jobs where they themselves say. Those that are charged for calls are left out:
// nobody could ask what they were told once that is used up.
func (a *arena) listen(ctx context.Context) error {
	for name, id := range a.named {
		if a.plans[name].PerCall || a.deaf {
			continue
		}
		body := map[string]any{
			"url": a.hooks.url(name, false), "batch_line_events": true,
			"events": []string{"job.succeeded", "job.failed", "job.canceled", "job.expired", "batch.completed", "quota.warning", "quota.exceeded"},
		}
		c := &conn{host: a.hosts[0], key: a.keys[id]}
		status, text, err := c.json(ctx, http.MethodPost, "/v1/webhook-endpoints", body)
		c.close()
		if err != nil || status != http.StatusCreated {
			return fmt.Errorf("an endpoint of %s: %d %s %w", name, status, text, err)
		}
		a.hooks.places[name] = audit.Place{Account: id}
		a.hooks.places["own-"+name] = audit.Place{Account: id, Own: true}
	}
	return nil
}

// told waits until every message is delivered, as the accounts see it.
func (a *arena) told(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, toldAll, fmt.Errorf("the outbox was not empty within %s", toldAll))
	defer cancel()
	for name, id := range a.named {
		if a.plans[name].PerCall {
			continue
		}
		c := &conn{host: a.hosts[0], key: a.keys[id]}
		for {
			var page struct{ Data []struct{ ID string } }
			status, text, err := c.into(ctx, "/v1/deliveries?state=pending&limit=1", &page)
			if err == nil && status == http.StatusOK && len(page.Data) == 0 {
				break
			}
			sleep(ctx, 100*time.Millisecond)
			if ctx.Err() != nil { // what is left is the auditor's to judge
				say("%v: %s has %d %.300s %v", context.Cause(ctx), name, status, text, err)
				c.close()
				return nil
			}
		}
		c.close()
	}
	return nil
}

// hookTaken is what the auditor wants of it all.
func (a *arena) hookTaken(run *audit.Run) {
	a.hooks.mu.Lock()
	defer a.hooks.mu.Unlock()
	run.Hooks, run.Places, run.HookURL = a.hooks.seen, a.hooks.places, a.hooks.url("", false)
}

// tellingAt kills a replica that is in the middle of a message: nobody has
// written down that it arrived.
func (d *director) tellingAt(ctx context.Context, a act, api *part) string {
	release := d.arena.hooks.holding()
	defer release()
	hit := d.until(ctx, armedWithin, func() bool { return d.arena.hooks.waiting() > a.who%3 })
	said := ""
	for _, name := range d.arena.apis { // whose message it is nobody knows
		if p := d.arena.byName[name]; hit || p == api {
			p.signal(stopSignal)
		}
	}
	for _, name := range d.arena.apis {
		if p := d.arena.byName[name]; hit || p == api {
			said += d.kill(ctx, p, a.rest) + " "
		}
	}
	return said + map[bool]string{false: "not in time", true: "with messages under way"}[hit]
}
