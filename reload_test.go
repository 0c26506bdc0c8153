package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// reloaded is a farm whose policy changes.
type reloaded struct {
	t     *testing.T
	farm  *instance
	file  string
	admin string
}

// put writes the policy file beside the old one, puts it in its place and says
// so.
func (r *reloaded) put(text string) {
	r.t.Helper()
	next := r.file + ".new"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.file); err != nil {
		r.t.Fatal(err)
	}
	r.hangup()
}

func (r *reloaded) hangup() {
	r.t.Helper()
	if err := r.farm.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloaded) get(path, token string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.farm.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s %v %s", path, resp.Status, err, text)
	}
	return string(text)
}

// submit is for goroutines beside the test's own.
func (r *reloaded) submit(key string) (id string, tier int, err error) {
	req, err := http.NewRequest(http.MethodPost, r.farm.url+"/v1/jobs", strings.NewReader(`{"html": "<p>x"}`))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		return "", 0, fmt.Errorf("%s: %s (%w)", resp.Status, text, err)
	}
	var v struct {
		ID   string
		Tier int
	}
	err = json.Unmarshal(text, &v)
	return v.ID, v.Tier, err
}

// shows waits until the answer at path has the text.
func (r *reloaded) shows(path, text string) {
	r.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got := r.get(path, r.admin)
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("%s never had %q:\n%s", path, text, got)
		}
	}
}

// A policy that changes under load loses nothing: every accepted job succeeds,
// whatever threads, tiers and names its plan has meanwhile. A bad file, and none,
// change nothing and are told.
func TestPolicyReload(t *testing.T) {
	needtest.Farm(t)
	w := newWorld(t)
	r := &reloaded{t: t, file: filepath.Join(w.dir, "policy.yaml")}
	policy := func(length, threads, tier int, name string) string {
		return fmt.Sprintf("version: 1\nqueue: {length: %d}\nplans:\n- {name: first, tier: 1, threads: 2, over_threads: {backlog: unlimited}}\n"+
			"- {name: %s, tier: %d, threads: %d, over_threads: {backlog: unlimited}}\n", length, name, tier, threads)
	}
	if err := os.WriteFile(r.file, []byte(policy(1000, 1, 3, "moving")), 0o644); err != nil {
		t.Fatal(err)
	}
	r.farm = w.up("--seats", "2", "--policy", r.file)
	defer func() {
		if code := r.farm.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("stopped with %d", code)
		}
		w.noStrays()
	}()
	token, err := os.ReadFile(filepath.Join(w.data(), "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	r.admin = string(bytes.TrimSpace(token))
	resp, made := call(t, r.admin, http.MethodPost, r.farm.url+"/admin/v1/accounts", `{"name": "mover", "plan": "moving"}`)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %v", resp.Status, made)
	}
	key, id := made["key"].(string), made["id"].(string)

	// Load: jobs are submitted for as long as the policy changes.
	quit := make(chan struct{})
	var submitting sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]int{} // tier by id
	for range 2 {
		submitting.Go(func() {
			tick := time.NewTicker(150 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-quit:
					return
				case <-tick.C:
				}
				id, tier, err := r.submit(key)
				if err != nil {
					t.Errorf("a submission during a reload: %v", err)
					return
				}
				mu.Lock()
				accepted[id] = tier
				mu.Unlock()
			}
		})
	}
	for i, text := range []string{
		policy(900, 6, 7, "moving"), // more threads
		policy(901, 1, 7, "moving"), // fewer
		policy(902, 4, 9, "renamed"),
		policy(903, 2, 3, "moving"),
	} {
		r.put(text)
		r.shows("/admin/v1/policy", fmt.Sprintf("length: %d", 900+i))
		// The leader goes by it too.
		r.shows("/metrics", fmt.Sprintf("tintype_queue_limit %d\n", 900+i))
		if i == 2 { // its plan is gone: it has the first one
			resp, v := call(t, key, http.MethodPost, r.farm.url+"/v1/jobs", `{"html": "<p>x"}`)
			if resp.StatusCode != http.StatusAccepted || v["tier"] != 1.0 {
				t.Errorf("a job of a plan that is gone: %s %v", resp.Status, v)
			}
		}
	}
	r.put("version: 1\nplans: [{name: first, teir: 1}]\n")
	r.shows("/metrics", "\ntintype_policy_reload_failed 1\n")
	r.shows("/admin/v1/policy", "length: 903")
	r.put(policy(904, 3, 3, "moving"))
	r.shows("/metrics", "\ntintype_policy_reload_failed 0\n")
	r.shows("/admin/v1/policy", "length: 904")
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.shows("/metrics", "\ntintype_policy_reload_failed 1\n") // found out without being asked
	r.shows("/admin/v1/policy", "length: 904")

	// An admin's change holds for the next request.
	out, errOut, code := w.client(r.farm.url, "", "account", "update", "mover", "--plan", "first")
	if code != 0 || !strings.Contains(out, "plan first") {
		t.Errorf("account update: %d %s %s", code, out, errOut)
	}
	resp, v := call(t, key, http.MethodPost, r.farm.url+"/v1/jobs", `{"html": "<p>x"}`)
	if resp.StatusCode != http.StatusAccepted || v["tier"] != 1.0 {
		t.Errorf("the first job on another plan: %s %v", resp.Status, v)
	}
	if out, errOut, code := w.client(r.farm.url, "", "policy", "show"); code != 0 || !strings.Contains(out, "length: 904") {
		t.Errorf("policy show: %d %s %s", code, out, errOut)
	}
	close(quit)
	submitting.Wait()

	tiers := map[int]int{}
	for id, tier := range accepted {
		deadline := time.Now().Add(2 * time.Minute)
		for {
			_, v := call(t, key, http.MethodGet, r.farm.url+"/v1/jobs/"+id+"?wait=30", "")
			if v["status"] == "succeeded" && v["tier"] == float64(tier) {
				break
			}
			if s := v["status"]; s != "queued" && s != "running" || time.Now().After(deadline) {
				t.Fatalf("job %s, accepted at tier %d: %v", id, tier, v)
			}
		}
		tiers[tier]++
	}
	if len(accepted) < 10 || len(tiers) < 2 {
		t.Errorf("too little happened: jobs by tier %v", tiers)
	}
	// Suspended at once, and back.
	if _, _, code := w.client(r.farm.url, "", "account", "update", id, "--suspend"); code != 0 {
		t.Errorf("suspend: %d", code)
	}
	if resp, v := call(t, key, http.MethodGet, r.farm.url+"/v1/jobs", ""); resp.StatusCode != http.StatusForbidden || v["code"] != "suspended" {
		t.Errorf("suspended: %s %v", resp.Status, v)
	}
}
