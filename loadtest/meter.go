package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// meter adds up the processor time of a process and all below it.
type meter struct {
	root   int
	before map[string]time.Duration
	busy   time.Duration // of the whole machine
	began  time.Time
	own    time.Duration
}

type use struct {
	cpu    time.Duration
	by     map[string]time.Duration // by name of the process
	others float64                  // cores that were busy with neither the subject nor us
}

func startMeter(root int) (*meter, error) {
	m := &meter{root: root}
	var err error
	m.before, err = cpuOf(m.root)
	m.busy, m.own, m.began = machineBusy(), ownCPU(), time.Now()
	return m, err
}

func (m *meter) stop() (use, error) {
	after, err := cpuOf(m.root)
	wall, busy, own := time.Since(m.began), machineBusy()-m.busy, ownCPU()-m.own
	u := use{by: map[string]time.Duration{}}
	for name, d := range after {
		// A process that was collected by another counts there from then on.
		u.by[name] = d - m.before[name]
		u.cpu += u.by[name]
	}
	for name, d := range m.before {
		if _, still := after[name]; !still {
			u.cpu -= d
		}
	}
	u.others = max(0, (busy-u.cpu-own).Seconds()/wall.Seconds())
	return u, err
}

// machineBusy is the processor time that the whole machine has spent.
func machineBusy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	var sum int64
	for i, v := range f {
		// user nice system idle iowait irq softirq; the rest is counted already
		if i == 0 || i == 4 || i == 5 || i > 7 {
			continue
		}
		n, _ := strconv.ParseInt(v, 10, 64)
		sum += n
	}
	return time.Duration(sum) * time.Second / userHz
}

// A scale watches how much memory a process and all below it hold. Each look
// walks through their pages, which takes the kernel some milliseconds for each:
// what is on the scale is not timed.
type scale struct {
	end   chan struct{}
	ended chan int64 // most bytes
}

const weighEvery = 250 * time.Millisecond

func weigh(root int) *scale {
	s := &scale{end: make(chan struct{}), ended: make(chan int64, 1)}
	go func() {
		var most int64
		for {
			most = max(most, heldBy(root))
			select {
			case <-s.end:
				s.ended <- most
				return
			case <-time.After(weighEvery):
			}
		}
	}()
	return s
}

// most ends the watch.
func (s *scale) most() int64 {
	close(s.end)
	return <-s.ended
}

// heldBy is the memory of a process and all below it, in bytes, a reaper's own
// left out: what several of them share counts once (Pss), and what the kernel
// does not tell us of counts as what the process holds for itself.
func heldBy(root int) (sum int64) {
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	parents := map[int]int{}
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended while we looked
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])); len(f) > 1 {
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				if pid != root || !isReaper(root) {
					sum += pssOf(pid)
				}
				break
			}
		}
	}
	return sum
}

func pssOf(pid int) int64 {
	dir := "/proc/" + strconv.Itoa(pid)
	if sum := kilobytes(dir+"/smaps_rollup", "Pss"); sum > 0 {
		return sum << 10
	}
	return kilobytes(dir+"/status", "RssAnon", "RssShmem") << 10
}

// kilobytes adds up lines of a file in /proc.
func kilobytes(path string, keys ...string) (sum int64) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); slices.Contains(keys, key) {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			sum += n
		}
	}
	return sum
}
