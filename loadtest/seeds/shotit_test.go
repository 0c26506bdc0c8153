package seeds

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var shotit = seed{policy: "shotit", seats: 4, lines: []line{
	{"SEED-SHOTIT-1", shotitGlobal},
	{"SEED-SHOTIT-2", shotitClasses},
	{"SEED-SHOTIT-3", shotitTiers},
	{"SEED-SHOTIT-4", shotitNoKey},
	{"SEED-SHOTIT-5", shotitBoth},
	{"SEED-SHOTIT-6", shotitFree},
	{"SEED-SHOTIT-7", shotitQuota},
	{"SEED-SHOTIT-8", shotitConcurrency},
	{"SEED-SHOTIT-9", shotitQueueFull},
	{"SEED-SHOTIT-10", shotitAdmission},
	{"SEED-SHOTIT-11", shotitTable},
}}

// shotitPlan is a plan of each priority. The shipped one of 2 has one slot, so
// each place of a queue is another account's.
var shotitPlan = map[string]string{"0": "free", "2": "$1", "5": "$10", "6": "$100"}

// queue fills the queue with jobs of these priorities, which wait or are held,
// and empties it at the end of the test.
func (w *world) queue(t *testing.T, priorities, hold string) {
	t.Helper()
	for _, p := range priorities {
		c := w.on(t, shotitPlan[string(p)])
		r := c.do("POST", "/v1/jobs", ofPage("queue", "hold="+hold))
		if r.StatusCode != http.StatusAccepted || fmt.Sprint(r.at("tier")) != string(p) {
			t.Fatalf("filling %s with a %c: %s", priorities, p, r)
		}
		t.Cleanup(func() { c.at(w.address()).in(t).cancel(r.text("id")) })
	}
}

// admits says which priorities a queue takes, and leaves it as it was.
func (w *world) admits(t *testing.T) string {
	t.Helper()
	var in []string
	for _, p := range []string{"0", "2", "5", "6"} {
		c := w.on(t, shotitPlan[p])
		switch r := c.do("POST", "/v1/jobs", ofPage("queue", "hold=probe")); r.StatusCode {
		case http.StatusAccepted:
			in = append(in, p)
			c.cancel(r.text("id"))
		case http.StatusServiceUnavailable:
		default:
			t.Errorf("a %s: %s, want 202 or 503", p, r)
		}
	}
	return strings.Join(in, " ")
}

// Over the threads of the plan the next one at the same time is refused with
// 402 and not queued; what is no work is not bounded.
func shotitConcurrency(t *testing.T, w *world) {
	for plan, threads := range map[string]int{"free": 1, "$1": 1, "$20": 2, "$50": 3, "$100": 4} {
		c, hold := w.on(t, plan), "SHOTIT-8 "+plan
		var ids []string
		for range threads {
			ids = append(ids, c.submit("shotit-8", "hold="+hold).text("id"))
		}
		w.wait(t, hold, threads)
		r := c.must(http.StatusPaymentRequired, "POST", "/v1/jobs", ofPage("shotit-8", "refused"))
		if got := r.text("error"); got != "Concurrency limit exceeded" || r.Header.Get("Retry-After") != "" {
			t.Errorf("%s: %s", plan, r)
		}
		for _, id := range ids {
			if r := c.must(http.StatusOK, "GET", "/v1/jobs/"+id, ""); r.text("status") != "running" {
				t.Errorf("a look beside %d held jobs: %s", threads, r)
			}
		}
		w.release(hold)
		for _, id := range ids {
			c.ended(id)
		}
		c.ended(c.submit("shotit-8", "").text("id"))
	}
}

func shotitQueueFull(t *testing.T, w *world) {
	w.queue(t, "66666666", "SHOTIT-9")
	r := w.on(t, "$100").must(http.StatusServiceUnavailable, "POST", "/v1/jobs", ofPage("shotit-9", ""))
	if got := r.text("error"); got != "Error: Search queue is full" {
		t.Errorf("a full queue: %s", r)
	}
}

// Entries below one's own priority are as if they were not there: eight of them
// do not keep anybody out, and with each of one's own or above there is a place
// less.
func shotitAdmission(t *testing.T, w *world) {
	w.queue(t, "00000000", "SHOTIT-10")
	if got := w.admits(t); got != "2 5 6" {
		t.Errorf("eight of 0 admit %q", got)
	}
	w.queue(t, "2222222", "SHOTIT-10")
	if got := w.admits(t); got != "2 5 6" {
		t.Errorf("seven of 2 admit %q", got)
	}
	w.queue(t, "5", "SHOTIT-10")
	if got := w.admits(t); got != "5 6" {
		t.Errorf("seven of 2 and one of 5 admit %q", got)
	}
}

func shotitTable(t *testing.T, w *world) {
	for _, row := range []struct{ queue, admitted string }{
		{"........", "0 2 5 6"},
		{"6520000.", "0 2 5 6"},
		{"66652220", "2 5 6"},
		{"66652222", "5 6"},
		{"66666655", "6"},
		{"66666666", ""},
	} {
		t.Run(row.queue, func(t *testing.T) {
			w.queue(t, strings.Trim(row.queue, "."), "SHOTIT-11")
			if got := w.admits(t); got != row.admitted {
				t.Errorf("admits %q, want %q", got, row.admitted)
			}
		})
	}
	if !slices.ContainsFunc(w.policy.Names(), func(n string) bool { return n == "free" }) || w.policy.Queue.Length != 8 {
		t.Errorf("the queue's length is %d", w.policy.Queue.Length)
	}
}
