package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/loadtest/corpus"
	"github.com/tintype/tintype/pkg/needtest"
)

// A short soak on a farm of its own, interrupted once: pages and traps end as
// they must, and nothing is left.
func TestSoak(t *testing.T) {
	tmp := ownFarm(t)
	needtest.Browser(t)
	state := filepath.Join(t.TempDir(), "soak.jsonl")
	// So few are other hostile pages each time.
	seed := strconv.FormatUint(uint64(rand.Uint32()), 10)
	t.Logf("its hostile pages again: go run ./loadtest soak --renders 20 --hostile 20 --seats 1 --every 5 --seed %s", seed)
	var out soakReport
	program(t, tmp, &out, "soak", "--renders", "10", "--every", "10", "--hostile", "20", "--seats", "1", "--state", state, "--seed", seed)
	if out.Renders != 10 || out.Hostile != 2 || out.Runs != 1 || out.Ends["page=ok"] != 8 {
		t.Errorf("soak printed %+v", out)
	}
	program(t, tmp, &out, "soak", "--renders", "20", "--every", "5", "--hostile", "20", "--seats", "1", "--state", state)
	if strconv.FormatUint(out.Seed, 10) != seed {
		t.Errorf("the second run went on with seed %d, want %s", out.Seed, seed)
	}
	if out.Renders != 20 || out.Hostile != 4 || out.Runs != 2 || out.Ends["page=ok"] != 16 || out.Last.Zombies != 0 || out.Last.Goroutines == 0 || out.Last.Processes == 0 || out.Last.Folders == 0 {
		t.Errorf("soak printed %+v", out)
	}
	// What is done is done.
	program(t, tmp, &out, "soak", "--renders", "20", "--state", state)
	if out.Renders != 20 || out.Runs != 2 {
		t.Errorf("soak printed %+v", out)
	}
}

// A seed gives an order of its own, with every hostile page in it, and gives it
// again.
func TestSoakOrder(t *testing.T) {
	names := func(seed uint64) (list []string) {
		for _, trap := range (&soak{Seed: seed}).traps() {
			list = append(list, trap.Name)
		}
		return list
	}
	list := names(0)
	for i, trap := range corpus.Traps() {
		if list[i] != trap.Name {
			t.Fatalf("without a seed the order is %q", list)
		}
	}
	for seed := range uint64(3) {
		seed++
		order := names(seed)
		if slices.Equal(order, list) || !slices.Equal(order, names(seed)) || slices.Equal(order, names(seed+1)) {
			t.Errorf("seed %d: %q", seed, order)
		}
		slices.Sort(order)
		if !slices.Equal(order, slices.Sorted(slices.Values(list))) {
			t.Errorf("seed %d leaves some out: %q", seed, order)
		}
	}
}

func TestGrown(t *testing.T) {
	steady := func(change func(i int, l *look)) (list []look) {
		for i := range 11 {
			l := look{Run: "a", Done: i * 100, RSS: 100 + float64(i%2), FDs: 50, Goroutines: 200, Processes: 12, Folders: 2}
			change(i, &l)
			list = append(list, l)
		}
		return list
	}
	for name, c := range map[string]struct {
		change func(i int, l *look)
		want   string // in what is found; empty: nothing is
	}{
		"steady":          {func(int, *look) {}, ""},
		"a warm-up":       {func(i int, l *look) { l.RSS = float64(min(100, 20+i*40)) }, ""},
		"one high look":   {func(i int, l *look) { l.Goroutines += 1000 * (i / 10) }, ""},
		"memory":          {func(i int, l *look) { l.RSS += 15 * float64(i) }, "MiB of memory"},
		"descriptors":     {func(i int, l *look) { l.FDs += 4 * i }, "descriptors"},
		"goroutines":      {func(i int, l *look) { l.Goroutines += 10 * i }, "goroutines"},
		"processes":       {func(i int, l *look) { l.Processes += i }, "processes"},
		"folders":         {func(i int, l *look) { l.Folders += i / 5 }, "folders"},
		"temporary files": {func(i int, l *look) { l.Temporary += i / 5 }, "temporary"},
		"shared memory":   {func(i int, l *look) { l.Shared += i }, "/dev/shm"},
		"a single zombie": {func(i int, l *look) { l.Zombies = i / 10 }, "1 zombies after 1000"},
		"two short runs":  {func(i int, l *look) { l.Run = string(rune('a' + i/5)); l.FDs += 10 * (i % 5) }, ""},
	} {
		got := strings.Join(grown(steady(c.change), 2), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

// A file whose last line was cut off is read up to there.
func TestSoakGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	want := look{Run: "x", Done: 250, Ends: map[string]int{"page=ok": 250}}
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(append(line, '\n'), line[:20]...), 0o644); err != nil {
		t.Fatal(err)
	}
	looks, err := (&soak{State: file}).read()
	if diff := cmp.Diff([]look{want}, looks); diff != "" || err != nil {
		t.Errorf("read (-want +got):\n%s%v", diff, err)
	}
}
