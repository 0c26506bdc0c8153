package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// shotit is the policy of a farm whose queue is as long as that of the table
// in TestQueueTable, with plans of its four priorities, and others beside.
const shotit = `
version: 1
queue: {length: 8}
plans:
- {name: "0", tier: 0, threads: 100}
- {name: "2", tier: 2, threads: 100}
- {name: "5", tier: 5, threads: 100}
- {name: "6", tier: 6, threads: 100}
- {name: pays, tier: 9, threads: 1, over_threads: {action: refuse, status: 402, retry_after: false}}
- {name: waits, tier: 9, threads: 1, over_threads: {action: refuse}}
- {name: parks, tier: 9, threads: 1, over_threads: {action: park, backlog: 2}}
`

// call sends a request with a bearer token and reads the answer's JSON.
func call(t *testing.T, token, method, url, body string) (*http.Response, map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, text)
	}
	return resp, v
}

// policied is a farm on the policy above, without a seat: what is accepted
// waits.
type policied struct {
	t    *testing.T
	url  string
	keys map[string]string // by plan
}

func newPolicied(t *testing.T) *policied {
	w := newWorld(t)
	file := filepath.Join(w.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(shotit), 0o644); err != nil {
		t.Fatal(err)
	}
	f := w.up("--seats", "0", "--policy", file)
	t.Cleanup(func() {
		if code := f.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("stopped with %d", code)
		}
		w.noStrays()
	})
	admin, err := os.ReadFile(filepath.Join(w.data(), "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	token := string(bytes.TrimSpace(admin))
	p := &policied{t: t, url: f.url, keys: map[string]string{}}
	_, plans := call(t, token, http.MethodGet, f.url+"/admin/v1/plans", "")
	for _, v := range plans["data"].([]any) {
		plan := v.(map[string]any)["name"].(string)
		resp, made := call(t, token, http.MethodPost, f.url+"/admin/v1/accounts", fmt.Sprintf(`{"name": "on %s", "plan": %q}`, plan, plan))
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("plan %s: %s %v", plan, resp.Status, made)
		}
		p.keys[plan] = made["key"].(string)
	}
	resp, problem := call(t, token, http.MethodPost, f.url+"/admin/v1/accounts", `{"name": "x", "plan": "7"}`)
	if text := fmt.Sprint(problem["errors"]); resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "its plans are 0, 2, 5, 6, pays") {
		t.Errorf("a plan that is not there: %s %v", resp.Status, problem)
	}
	return p
}

// submit returns the answer and, of an accepted job, its id.
func (p *policied) submit(plan string) (*http.Response, map[string]any, string) {
	p.t.Helper()
	resp, v := call(p.t, p.keys[plan], http.MethodPost, p.url+"/v1/jobs", `{"html": "x"}`)
	id, _ := v["id"].(string)
	return resp, v, id
}

func (p *policied) cancel(plan, id string) {
	p.t.Helper()
	if resp, v := call(p.t, p.keys[plan], http.MethodDelete, p.url+"/v1/jobs/"+id, ""); v["status"] != "canceled" {
		p.t.Fatalf("cancel: %s %v", resp.Status, v)
	}
}

// The published table of a server with a fixed queue and priorities, through
// HTTP: what a queue holds, and which priorities are admitted to it.
func TestQueueTable(t *testing.T) {
	needtest.Farm(t)
	p := newPolicied(t)
	for _, row := range []struct{ queue, admitted string }{
		{"", "0 2 5 6"},
		{"6520000", "0 2 5 6"},
		{"66652220", "2 5 6"},
		{"66652222", "5 6"},
		{"66666655", "6"},
		{"66666666", ""},
	} {
		held := [][2]string{}
		for _, priority := range row.queue {
			plan := string(priority)
			resp, v, id := p.submit(plan)
			if resp.StatusCode != http.StatusAccepted || fmt.Sprint(v["tier"]) != plan {
				t.Fatalf("filling %s with a %s: %s %v", row.queue, plan, resp.Status, v)
			}
			held = append(held, [2]string{plan, id})
		}
		for _, plan := range []string{"0", "2", "5", "6"} {
			resp, v, id := p.submit(plan)
			if slices.Contains(strings.Fields(row.admitted), plan) {
				if resp.StatusCode != http.StatusAccepted {
					t.Fatalf("%q and a %s: %s %v", row.queue, plan, resp.Status, v)
				}
				p.cancel(plan, id) // the row is as it was
				continue
			}
			if resp.StatusCode != http.StatusServiceUnavailable || v["code"] != "queue_full" || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%q and a %s: %s %v, want 503 queue_full", row.queue, plan, resp.Status, v)
			}
		}
		for _, h := range held {
			p.cancel(h[0], h[1])
		}
	}

	// Over the threads: what the plan says.
	for _, over := range []struct {
		plan, code string
		status     int
		waits      bool
		accepted   int
	}{
		{"pays", "concurrency_limit_exceeded", http.StatusPaymentRequired, false, 1},
		{"waits", "concurrency_limit_exceeded", http.StatusTooManyRequests, true, 1},
		{"parks", "backlog_full", http.StatusTooManyRequests, true, 3},
	} {
		for i := range over.accepted {
			resp, v, _ := p.submit(over.plan)
			want := "worker"
			if i > 0 {
				want = "slot"
			}
			if resp.StatusCode != http.StatusAccepted || v["waiting_for"] != want {
				t.Errorf("job %d of %s: %s %v", i, over.plan, resp.Status, v)
			}
		}
		resp, v, _ := p.submit(over.plan)
		if told := resp.Header.Get("Retry-After") != ""; resp.StatusCode != over.status || v["code"] != over.code || told != over.waits {
			t.Errorf("one too many for %s: %s, Retry-After %v, %v", over.plan, resp.Status, told, v)
		}
	}
}

func TestPolicyCommand(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("version: 1\nplans:\n- name: a\n  teir: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"policy", "check", "deploy/policies/default.yaml"}, 0, "default  0     seats"},
		{[]string{"policy", "check", bad}, 2, bad + ":4:3: plans[0].teir: is not known; did you mean tier?"},
		{[]string{"up", "--policy", bad, "--data", filepath.Join(t.TempDir(), "data")}, 2, "did you mean tier?"},
		{[]string{"policy", "check"}, 2, "<file>"},
	} {
		var out bytes.Buffer
		if code := run(test.args, strings.NewReader(""), &out, &out); code != test.code || !strings.Contains(out.String(), test.out) {
			t.Errorf("%q ended with %d: %s", test.args, code, out.String())
		}
	}
}
