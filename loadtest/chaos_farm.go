package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/loadtest/audit"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/farm"
)

const (
	chaosLength = 6 // L: low, so that it is reached
	chaosWall   = 10 * time.Second
	chaosAdmin  = "chaos-admin"
	chaosWorker = "chaos-worker"
	chaosSecret = "Y2hhb3MgY2hhb3MgY2hhb3MgY2hhb3MgY2hhb3MgY2g=" // 32 bytes
)

// chaosPlan is a plan of a chaos run, with one account. All are small, so that
// every bound is met.
type chaosPlan struct {
	share int // of the submissions
	audit.Plan
	text string // of the policy file, beside name, tier, threads and wall budget
}

// chaosPlans are the plans of a run of about so many jobs.
func chaosPlans(jobs uint64) map[string]chaosPlan {
	renders, calls := int64(max(jobs/12, 8)), int64(max(jobs/2, 60))
	return map[string]chaosPlan{
		"top":    {3, audit.Plan{Tier: 5, Threads: 3}, "over_threads: {action: park, backlog: 6}"},
		"wide":   {4, audit.Plan{Tier: 1, Threads: 20}, "over_threads: {action: park, backlog: 100}"},
		"strict": {3, audit.Plan{Tier: 1, Threads: 1}, "over_threads: {action: refuse}"},
		"cached": {3, audit.Plan{Tier: 1, Threads: 4, Cache: time.Hour}, "over_threads: {action: park, backlog: 50}, cache_ttl_s: 3600"},
		"metered": {
			2,
			audit.Plan{Tier: 1, Threads: 6, Quota: renders * 120},
			fmt.Sprintf("over_threads: {action: park, backlog: 50}, quota: {unit: render, limit: %d}", renders),
		},
		"calls": {
			1,
			audit.Plan{Tier: 1, Threads: 6, Quota: calls * 120, PerCall: true},
			fmt.Sprintf("over_threads: {action: park, backlog: 50}, quota: {unit: request, limit: %d}", calls),
		},
		"bucket": {
			2,
			audit.Plan{Tier: 1, Threads: 6, Rate: audit.Rate{Requests: 60, Window: time.Minute, Burst: 5}},
			"over_threads: {action: park, backlog: 50}, rate: {requests: 60, window_s: 60, burst: 5}",
		},
		// Its batches meet the backlog; the crowd sends nothing of its own.
		batchPlan: {0, audit.Plan{Tier: 1, Threads: 5}, "over_threads: {action: park, backlog: 40}"},
		"window": {
			1,
			audit.Plan{Tier: 1, Threads: 6, Rate: audit.Rate{Requests: 8, Window: 10 * time.Second}},
			"over_threads: {action: park, backlog: 50}, rate: {algorithm: fixed_window, requests: 8, window_s: 10}",
		},
	}
}

// chaosPolicy is the policy file with these plans and a queue of this length.
func chaosPolicy(length int, plans map[string]chaosPlan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nqueue: {length: %d}\nplans:\n", length)
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		p := plans[name]
		fmt.Fprintf(&b, "- {name: %s, tier: %d, threads: %d, wall_ms: %d, %s}\n", name, p.Tier, p.Threads, chaosWall.Milliseconds(), p.text)
	}
	return b.String()
}

// arena is a farm under test: its processes, its stores and its accounts.
type arena struct {
	dir    string
	forks  *forks
	parts  []*part // in the order of their start
	byName map[string]*part
	hosts  []string // HOST:PORT of the API, by replica
	apis   []string // names of the replicas
	plans  map[string]chaosPlan
	keys   map[string]string
	named  map[string]string // ids of the accounts, by the name of their plan
	rules  audit.Rules
	hooks  *hookLog // where webhooks go
	deaf   bool     // nobody asks for any

	natsURL, databaseURL, s3 string // where the auditor finds the stores
	access, secret           string
	ballast                  string   // folder of a small disk under NATS; empty: none
	sockets                  string   // folder of Postgres' socket
	worker                   []string // flags of a worker: its seats, and how null they are
}

// freePorts gives addresses on which nobody listened a moment ago. Their ports
// are none that the kernel gives away (32768 and above on Linux): a connection
// of anybody's could take one while the process that has it is dead.
func freePorts(n int) (out []string, err error) {
	for try := 0; len(out) < n; try++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15_000+rand.IntN(17_000)))
		switch {
		case err == nil:
			defer l.Close()
			out = append(out, l.Addr().String())
		case try > 100:
			return nil, err
		}
	}
	return out, nil
}

func newArena(dir string, length int, plans map[string]chaosPlan) (*arena, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(chaosPolicy(length, plans)), 0o644); err != nil {
		return nil, err
	}
	hooks, err := newHookLog()
	if err != nil {
		return nil, err
	}
	return &arena{
		hooks: hooks, dir: dir, forks: newForks(), byName: map[string]*part{}, plans: plans, keys: map[string]string{}, named: map[string]string{},
		access: storeKey, secret: storeSwear, worker: []string{"--null", "--seats", "3"},
		rules: audit.Rules{Length: length, Plans: map[string]audit.Plan{}, Attempts: 3, LeaseGrace: 35*time.Second + 45*time.Second},
	}, nil
}

// reach lets webhooks through to where they go.
func (a *arena) reach() []string {
	return []string{"--webhook-allow-http", "--egress-allow", a.hooks.address()}
}

// planOf is the name of an account's plan.
func (a *arena) planOf(account string) string {
	for name, id := range a.named {
		if id == account {
			return name
		}
	}
	return ""
}

func (a *arena) add(kind, name string, env []string, args ...string) *part {
	p := newPart(a.forks, a.dir, kind, name, env, args...)
	a.parts, a.byName[name] = append(a.parts, p), p
	return p
}

// startCluster starts the stores, each alone, and two of every tier and one
// worker more, each in a process of its own.
func (a *arena) startCluster(ctx context.Context, disk bool) error {
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	natsDir := filepath.Join(a.dir, "nats")
	if disk {
		if err := mountSmall(natsDir); err != nil {
			fmt.Fprintln(os.Stderr, "no full disk in this run: a small tmpfs cannot be mounted:", err)
		} else {
			a.ballast = natsDir
		}
	}
	a.natsURL, a.s3 = "nats://"+storeToken+"@"+ports[0], "http://"+ports[1]
	if err := a.makeSockets(); err != nil {
		return err
	}
	stores := []*part{
		a.add("nats", "nats", nil, "store", "nats", "--dir", natsDir, "--listen", ports[0]),
		a.add("postgres", "postgres", nil, "store", "postgres", "--dir", filepath.Join(a.dir, "postgres"), "--socket", a.sockets),
		a.add("s3", "s3", nil, "store", "s3", "--dir", filepath.Join(a.dir, "s3"), "--listen", ports[1]),
	}
	for _, p := range stores {
		if err := p.start(); err != nil {
			return err
		}
		line, err := p.ready(ctx)
		if err != nil {
			return err
		}
		if _, url, found := strings.Cut(line, " "); found {
			a.databaseURL = url
		}
	}
	p := &farm.Process{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Out: io.Discard}
	if err := p.Migrate(ctx, config.Migrate{DatabaseURL: a.databaseURL}); err != nil {
		return err
	}
	if err := a.hooks.ask(ctx, a.databaseURL); err != nil {
		return err
	}
	env := []string{
		"TINTYPE_NATS_URL=" + a.natsURL, "TINTYPE_DATABASE_URL=" + a.databaseURL, "TINTYPE_S3_ENDPOINT=" + a.s3,
		"TINTYPE_S3_ACCESS_KEY=" + a.access, "TINTYPE_S3_SECRET_KEY=" + a.secret, "TINTYPE_POLICY=" + filepath.Join(a.dir, "policy.yaml"),
		"TINTYPE_ADMIN_TOKEN=" + chaosAdmin, "TINTYPE_WORKER_TOKEN=" + chaosWorker, "TINTYPE_SECRET_KEY=" + chaosSecret, "TINTYPE_LOG_LEVEL=info",
	}
	for i, at := range ports[2:4] {
		a.add("scheduler", fmt.Sprintf("scheduler%d", i+1), env, "tier", "scheduler", "--cluster-listen", at).address = at
	}
	for i, at := range ports[4:6] {
		name := fmt.Sprintf("api%d", i+1)
		a.add("api", name, env, append([]string{"tier", "api", "--listen", at}, a.reach()...)...)
		a.hosts, a.apis = append(a.hosts, at), append(a.apis, name)
	}
	for i := range 3 {
		name := fmt.Sprintf("worker%d", i+1)
		a.add("worker", name, []string{"TINTYPE_WORKER_TOKEN=" + chaosWorker, "TINTYPE_LOG_LEVEL=info"},
			append([]string{"worker", "--scheduler", ports[2] + "," + ports[3], "--name", name, "--drain-limit", "5s"}, a.worker...)...)
	}
	for _, p := range a.parts[3:] {
		if err := p.start(); err != nil {
			return err
		}
	}
	return a.welcome(ctx)
}

// startUp starts everything as one process on embedded stores.
func (a *arena) startUp(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	env := []string{
		"TINTYPE_POLICY=" + filepath.Join(a.dir, "policy.yaml"), "TINTYPE_ADMIN_TOKEN=" + chaosAdmin, "TINTYPE_LOG_LEVEL=info",
	}
	a.hosts, a.apis = ports, []string{"up"}
	p := a.add("up", "up", env, append([]string{
		"up", "--null", "--data", filepath.Join(a.dir, "data"), "--listen", ports[0], "--seats", "6", "--drain-limit", "5s",
	}, a.reach()...)...)
	if err := p.start(); err != nil {
		return err
	}
	return a.welcome(ctx)
}

// openStores serves the stores of an `up` that has ended, for the auditor.
func (a *arena) openStores(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	data := filepath.Join(a.dir, "data")
	for name, to := range map[string]*string{"s3.access": &a.access, "s3.secret": &a.secret} {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			return err
		}
		*to = strings.TrimSpace(string(text))
	}
	if err := a.makeSockets(); err != nil {
		return err
	}
	a.natsURL, a.s3 = "nats://"+storeToken+"@"+ports[0], "http://"+ports[1]
	for _, p := range []*part{
		a.add("nats", "nats", nil, "store", "nats", "--dir", filepath.Join(data, "nats"), "--listen", ports[0]),
		a.add("postgres", "postgres", nil, "store", "postgres", "--dir", filepath.Join(data, "postgres"), "--socket", a.sockets),
		a.add("s3", "s3", nil, "store", "s3", "--dir", filepath.Join(data, "s3"), "--listen", ports[1], "--access", a.access, "--secret", a.secret),
	} {
		if err := p.start(); err != nil {
			return err
		}
		line, err := p.ready(ctx)
		if err != nil {
			return err
		}
		if _, url, found := strings.Cut(line, " "); found {
			a.databaseURL = url
		}
	}
	return nil
}

// welcome waits until every replica takes jobs, and makes the accounts.
func (a *arena) welcome(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("the farm was not ready within %s", startWithin))
	defer cancel()
	for _, host := range a.hosts {
		for {
			resp, err := ask(ctx, http.MethodGet, host, "/readyz", nil, nil)
			if err == nil && resp == http.StatusOK {
				break
			}
			select {
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), err, errors.New(a.parts[len(a.parts)-1].said()))
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	for name, plan := range a.plans {
		var made struct {
			ID, Key string
		}
		status, err := ask(ctx, http.MethodPost, a.hosts[0], "/admin/v1/accounts", map[string]string{"name": name, "plan": name}, &made)
		if err != nil || status != http.StatusCreated {
			return fmt.Errorf("account %s: %d, %w", name, status, err)
		}
		a.keys[made.ID], a.named[name], a.rules.Plans[made.ID] = made.Key, made.ID, plan.Plan
	}
	return a.listen(ctx)
}

// ask is one request of the admin's.
func ask(ctx context.Context, method, host, path string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = strings.NewReader(string(text))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+chaosAdmin)
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return resp.StatusCode, err
}

// makeSockets makes the folder of Postgres' socket: its path must be short, and
// that of a test's folder is not.
func (a *arena) makeSockets() (err error) {
	a.sockets, err = os.MkdirTemp("", "tt-pg-")
	return err
}

// stop ends the farm; the tiers before the stores.
func (a *arena) stop() error {
	err := errors.Join(stopAll(a.parts), a.hooks.stop())
	a.forks.close()
	err = errors.Join(err, unmountSmall(a.ballast))
	if a.sockets != "" {
		err = errors.Join(err, os.RemoveAll(a.sockets))
	}
	return err
}
