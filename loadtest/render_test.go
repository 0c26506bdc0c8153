package main

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// A farm with browsers, the bare driver and the reused tab, each a process of
// its own, one picture of each of two pages and two measured ones.
func TestRender(t *testing.T) {
	tmp := ownFarm(t)
	needtest.Browser(t)
	pictures := t.TempDir()
	var out renderReport
	program(t, tmp, &out, "render", "--rounds", "1", "--n", "2", "--pages", "trivial,images", "--seats", "1", "--clients", "1", "--pictures", pictures)
	if len(out.Subjects) != 3 {
		t.Fatalf("render printed %+v", out)
	}
	for _, s := range out.Subjects {
		if s.RPS <= 0 || s.Ratio <= 0 || s.CPU <= 0 || s.Peak <= 0 || s.Took.P50 <= 0 || len(s.Wrong)+len(s.Failed) > 0 {
			t.Errorf("render printed %+v", s)
		}
		if _, err := os.Stat(pictures + "/" + s.Name + "-images.png"); err != nil {
			t.Error(err)
		}
	}
}

func TestMedianAndRatios(t *testing.T) {
	run := &contest{turns: map[string][]turn{
		"a": {{rps: 10, cpu: 0.1, took: []time.Duration{100 * time.Millisecond}}, {rps: 2, cpu: 0.5, took: []time.Duration{500 * time.Millisecond}}, {rps: 8, cpu: 0.1, took: []time.Duration{120 * time.Millisecond}}},
		"b": {{rps: 5, cpu: 0.2, took: []time.Duration{150 * time.Millisecond}}, {rps: 1, cpu: 1, took: []time.Duration{550 * time.Millisecond}}, {rps: 8, cpu: 0.1, took: []time.Duration{120 * time.Millisecond}}},
	}}
	got := run.sum("b", "a")
	if got.RPS != 5 || got.Ratio != 0.5 || got.CPURatio != 2 || got.Added != 50 || got.Took.P50 != 150 {
		t.Errorf("the sum is %+v", got)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("the median of four is %v", m)
	}
}

func TestMeter(t *testing.T) {
	m, err := startMeter(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	for i := range held { // touched, so that it is resident
		held[i] = byte(i)
	}
	for began := ownCPU(); ownCPU()-began < 200*time.Millisecond; {
		slices.Reverse(held)
	}
	got, err := m.stop()
	if err != nil || got.cpu < 150*time.Millisecond || heldBy(os.Getpid()) < 64<<20 {
		t.Errorf("%+v, %d held, %v", got, heldBy(os.Getpid()), err)
	}
	runtime.KeepAlive(held)
}

// Where there is no Node.js, peers are left out, in words.
func TestPeersLeftOut(t *testing.T) {
	c := render{Subjects: []string{"peers"}, Node: t.TempDir() + "/node", Cache: t.TempDir()}
	skipped := map[string]string{}
	makers, err := c.makers(t.Context(), skipped)
	if err != nil || len(makers) != 0 || len(skipped) != len(peers()) {
		t.Errorf("%d makers, skipped %v, %v", len(makers), skipped, err)
	}
	if why := skipped["cluster"]; !strings.Contains(why, "no Node.js") {
		t.Errorf("the cluster is left out because of %q", why)
	}
	if _, err := (&render{Subjects: []string{"farm", "gowitness"}}).makers(t.Context(), skipped); err == nil || !strings.Contains(err.Error(), `"gowitness"`) {
		t.Errorf("an unknown subject: %v", err)
	}
	all, err := (&render{Subjects: []string{"all"}, Node: t.TempDir() + "/node"}).makers(t.Context(), skipped)
	if err != nil || len(all) != len(ours()) {
		t.Errorf("all are %d, %v", len(all), err)
	}
}
