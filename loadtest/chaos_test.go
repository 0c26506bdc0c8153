package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// Kills, pauses and stores that go away, on a farm at work, and an auditor that
// finds nothing: the short form of `make chaos`.
func TestChaos(t *testing.T) {
	needtest.Postgres(t)
	dir, err := os.MkdirTemp("", "tintype-chaos-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // else its logs are worth reading
			os.RemoveAll(dir)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres has to pass
		t.Fatal(err)
	}
	const jobs, kills = 150, 13
	cmd := exec.CommandContext(t.Context(), os.Args[0], "chaos", "--seed", "7", "--jobs", strconv.Itoa(jobs), "--kills", strconv.Itoa(kills),
		"--clients", "12", "--most", "2s", "--windows", "0", "--dir", dir)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = t.Output()
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("chaos: %v: %s", err, text)
	}
	var out chaosResult
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	// Kills of processes that were just not there do not count.
	if !out.clean() || out.Kills < kills*2/3 || out.Jobs < jobs/2 || out.Cluster.Ends["succeeded"] == 0 || out.Windows["open lease"] == 0 ||
		out.Cluster.Batches == 0 || out.Cluster.BatchJobs == 0 || out.Cluster.HooksAsked < jobs/2 || out.Up.Hooks == 0 {
		t.Errorf("chaos printed %s", text)
	}
}

// The same seed has the same schedule, and each has about as many kills as it was
// asked for.
func TestPlan(t *testing.T) {
	for _, kills := range []int{1, 9, 25, 90, 300} {
		acts := plan(7, kills, time.Second)
		if !slices.Equal(acts, plan(7, kills, time.Second)) {
			t.Errorf("%d kills: the schedule is another one the second time", kills)
		}
		if kills > 1 && slices.Equal(acts, plan(8, kills, time.Second)) {
			t.Errorf("%d kills: another seed has the same schedule", kills)
		}
		n := 0
		for _, a := range acts {
			for _, c := range chances {
				if c.what == a.what {
					n += c.cost
				}
			}
			if a.hold > time.Second || a.rest < 0 {
				t.Errorf("%+v", a)
			}
		}
		if n != kills {
			t.Errorf("%d kills, want %d", n, kills)
		}
	}
}

// A seed whose clean result is in the file is not run again.
func TestChaosResumes(t *testing.T) {
	c := &chaos{Results: filepath.Join(t.TempDir(), "results"), Jobs: 10, Kills: 2}
	for _, r := range []*chaosResult{
		{Seed: 1, Jobs: 12, Kills: 2},
		{Seed: 2, Jobs: 12, Kills: 2, Violations: []string{"I1: lost"}},
		{Seed: 3, Jobs: 9, Kills: 2}, // of a smaller run
	} {
		if err := c.append(r); err != nil {
			t.Fatal(err)
		}
	}
	done, err := c.done()
	if err != nil || len(done) != 1 || !done[1] {
		t.Errorf("%v, %v", done, err)
	}
}
