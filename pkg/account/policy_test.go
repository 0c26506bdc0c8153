package account

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/deploy/policies"
)

var update = flag.Bool("update", false, "write golden files")

// The built-in policy, in the words of the contract; the file says it all, so
// that nothing else has to know a default.
func TestDefaultPolicy(t *testing.T) {
	want := &Policy{
		Queue: Queue{Length: 10_000, WaitLimit: 24 * time.Hour},
		Plans: []Plan{{
			Name: "default", OverThreads: OverThreads{Action: Park, Backlog: 100_000},
			Wall: time.Minute, Retention: 30 * 24 * time.Hour,
		}},
	}
	if diff := cmp.Diff(want, DefaultPolicy()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want.Plans[0], Default()); diff != "" {
		t.Error(diff)
	}
	other := Policy{
		Queue: Queue{Length: 1, CountRunning: true, Strict: true, WaitLimit: time.Second, PerHost: 1},
		Plans: []Plan{{Tier: 1, Threads: 1, OverThreads: OverThreads{Backlog: 1}, Wall: time.Second, Retention: 1}},
	}
	if got, err := parsePolicy("default.yaml", policies.Default, other); err != nil || !cmp.Equal(want, got) {
		t.Errorf("default.yaml leaves something out: %v\n%s", err, cmp.Diff(want, got))
	}
	DefaultPolicy().Plans[0].Tier = 9
	if Default().Tier != 0 {
		t.Error("a caller changed the built-in policy")
	}
}

func TestGoodPolicies(t *testing.T) {
	base := *DefaultPolicy()
	plan := func(change func(*Plan)) Plan {
		p := base.Plans[0]
		p.Name = "a"
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		text  string
		queue Queue
		plan  Plan
	}{
		"least": {"version: 1\nplans: [{name: a}]", base.Queue, plan(func(*Plan) {})},
		"whole": {
			"version: 1\nqueue: {length: 8, count_running: true, strict: true, wait_limit_s: 60, per_host: 2}\n" +
				"plans:\n- name: a\n  tier: -3\n  threads: 7\n  over_threads: {action: park, backlog: 992}\n  retention_days: 2\n  wall_ms: 90000",
			Queue{Length: 8, CountRunning: true, Strict: true, WaitLimit: time.Minute, PerHost: 2},
			plan(func(p *Plan) {
				p.Tier, p.Threads, p.OverThreads.Backlog, p.Retention, p.Wall = -3, 7, 992, 48*time.Hour, 90*time.Second
			}),
		},
		"a part of the queue": {
			"version: 1\nqueue: {length: 8}\nplans: [{name: a}]", Queue{Length: 8, WaitLimit: 24 * time.Hour}, plan(func(*Plan) {}),
		},
		"waiting for ever": {"version: 1\nqueue: {wait_limit_s: 0}\nplans: [{name: a}]", Queue{Length: 10_000}, plan(func(*Plan) {})},
		"refuse": {
			"version: 1\nplans: [{name: a, threads: 1, over_threads: {action: refuse}}]", base.Queue,
			plan(func(p *Plan) {
				p.Threads, p.OverThreads = 1, OverThreads{Action: Refuse, Status: 429, RetryAfter: true}
			}),
		},
		"refuse with 402": {
			"version: 1\nplans: [{name: a, threads: 1, over_threads: {action: refuse, status: 402, retry_after: false}}]", base.Queue,
			plan(func(p *Plan) { p.Threads, p.OverThreads = 1, OverThreads{Action: Refuse, Status: 402} }),
		},
		"unlimited": {
			"version: 1\nplans: [{name: a, threads: seats, over_threads: {backlog: unlimited}}]", base.Queue,
			plan(func(p *Plan) { p.OverThreads.Backlog = Unlimited }),
		},
		"no backlog": {
			"version: 1\nplans: [{name: a, over_threads: {action: park, backlog: 0}}]", base.Queue, plan(func(p *Plan) { p.OverThreads.Backlog = 0 }),
		},
		"quotes, comments, indented list": {
			"# ours\n\"version\": 1\nplans:\n  # one\n  - 'name': \"a\" # yes\n    tier: 0x2\n", base.Queue, plan(func(p *Plan) { p.Tier = 2 }),
		},
		"carriage returns, document start": {"---\r\nversion: 1\r\nplans:\r\n- name: a\r\n  tier: 5\r\n", base.Queue, plan(func(p *Plan) { p.Tier = 5 })},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePolicy("policy.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Policy{Queue: test.queue, Plans: []Plan{test.plan}}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanByName(t *testing.T) {
	p, err := ParsePolicy("policy.yaml", []byte("version: 1\nplans: [{name: free, tier: 1}, {name: $100, tier: 6}]"))
	if err != nil {
		t.Fatal(err)
	}
	if plan, ok := p.Plan("$100"); !ok || plan.Tier != 6 {
		t.Errorf("%+v %v", plan, ok)
	}
	if plan, ok := p.Plan("gone"); ok || plan.Name != "free" {
		t.Errorf("a plan that is not there: %+v %v", plan, ok)
	}
	if diff := cmp.Diff([]string{"free", "$100"}, p.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestReadPolicy(t *testing.T) {
	if p, err := ReadPolicy(""); err != nil || !cmp.Equal(p, DefaultPolicy()) {
		t.Errorf("no file: %v %v", p, err)
	}
	if _, err := ReadPolicy(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	long := filepath.Join(t.TempDir(), "long.yaml")
	if err := os.WriteFile(long, []byte("#"+strings.Repeat(" ", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(long); err == nil || !strings.Contains(err.Error(), "long.yaml:1:1: the file has") {
		t.Errorf("a long file: %v", err)
	}
}

// Everything that can be wrong, and what is said of it.
func TestBadPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ParsePolicy(name, text)
			bad, ok := errors.AsType[*PolicyError](err)
			if !ok || p != nil {
				t.Fatalf("%v, %v; want a PolicyError", p, err)
			}
			got := strings.Join(bad.Lines(), "\n") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// No text makes the parser panic; what passes keeps the promises of a Policy.
func FuzzPolicy(f *testing.F) {
	files, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add(policies.Default)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy("p.yaml", text)
		if err != nil {
			bad, ok := errors.AsType[*PolicyError](err)
			if !ok || p != nil || len(bad.Problems) == 0 {
				t.Fatalf("%v, %v", p, err)
			}
			for i, line := range bad.Lines() {
				if at := bad.Problems[i]; at.Line < 1 || at.Column < 1 || at.Rule == "" || strings.ContainsAny(line, "\n\r") {
					t.Errorf("%q", line)
				}
			}
			return
		}
		names := map[string]bool{}
		for _, plan := range p.Plans {
			if plan.Name == "" || names[plan.Name] || plan.Threads < 0 || plan.Wall < time.Second || plan.Retention < 24*time.Hour ||
				int(int32(plan.Tier)) != plan.Tier || plan.OverThreads.Backlog < 0 {
				t.Errorf("%+v", plan)
			}
			names[plan.Name] = true
		}
		if len(p.Plans) == 0 || p.Queue.Length < 1 || p.Queue.WaitLimit < 0 || p.Queue.PerHost < 0 {
			t.Errorf("%+v", p)
		}
	})
}
