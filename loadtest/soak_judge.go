package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// below counts the processes below one, without those of Postgres, which come
// and go with the connections to it, and the zombies among them.
func below(root int) (n, zombies int) {
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	type process struct {
		parent int
		zombie bool
		name   string
	}
	all := map[int]process{}
	for _, path := range entries {
		text, err := os.ReadFile(path)
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if err != nil || open < 0 || end < 0 {
			continue // it ended while we looked
		}
		f := strings.Fields(string(text[end+1:]))
		if len(f) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(f[1])
		all[pid] = process{parent, f[0] == "Z", string(text[open+1 : end])}
	}
	for pid, p := range all {
		if pid == root || p.name == "postgres" {
			continue
		}
		for at := p.parent; at > 1; at = all[at].parent {
			if at == root {
				n++
				if p.zombie {
					zombies++
				}
				break
			}
		}
	}
	return n, zombies
}

// sharedFiles are those in /dev/shm, by path, but what Postgres keeps there.
func sharedFiles() map[string]bool {
	found := map[string]bool{}
	entries, _ := os.ReadDir("/dev/shm")
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "PostgreSQL.") {
			found[filepath.Join("/dev/shm", e.Name())] = true
		}
	}
	return found
}

// grown says what the looks of one process have more of in their last third
// than in the first behind the warm-up: of what is counted a tenth and a few at
// most, of memory a quarter and 32 MiB. A run too short for thirds says nothing
// of growth, and its zombies all the same.
func grown(looks []look, warmUp int) (out []string) {
	for _, l := range looks {
		if l.Zombies > 0 {
			out = append(out, fmt.Sprintf("%d zombies after %d renders", l.Zombies, l.Done))
		}
	}
	var runs []string
	of := map[string][]look{}
	for _, l := range looks {
		if of[l.Run] == nil {
			runs = append(runs, l.Run)
		}
		of[l.Run] = append(of[l.Run], l)
	}
	for _, run := range runs {
		list := of[run]
		if len(list) < warmUp+6 {
			continue
		}
		list = list[warmUp:]
		third := len(list) / 3
		first, last := list[:third], list[len(list)-third:]
		for _, m := range []struct {
			name         string
			of           func(look) float64
			share, spare float64
		}{
			{"MiB of memory", func(l look) float64 { return l.RSS }, 0.25, 32},
			{"descriptors", func(l look) float64 { return float64(l.FDs) }, 0.1, 10},
			{"goroutines", func(l look) float64 { return float64(l.Goroutines) }, 0.1, 20},
			{"processes", func(l look) float64 { return float64(l.Processes) }, 0.1, 4},
			{"folders of browsers", func(l look) float64 { return float64(l.Folders) }, 0, 0},
			{"temporary files", func(l look) float64 { return float64(l.Temporary) }, 0, 0},
			{"files in /dev/shm", func(l look) float64 { return float64(l.Shared) }, 0, 4},
		} {
			values := func(list []look) (v []float64) {
				for _, l := range list {
					v = append(v, m.of(l))
				}
				return v
			}
			a, b := median(values(first)), median(values(last))
			if b > a*(1+m.share)+m.spare {
				out = append(out, fmt.Sprintf("%.0f %s after %d renders, %.0f after %d", a, m.name, first[0].Done, b, last[len(last)-1].Done))
			}
		}
	}
	return slices.Clip(out)
}
