package scheduler

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A line beside a slice that is kept in order.
func TestLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := line{key: byOrder}
		var want []*entry
		next := uint64(1 << 20)
		place := func(order uint64) (int, bool) {
			return slices.BinarySearchFunc(want, order, func(e *entry, order uint64) int { return cmp.Compare(e.order, order) })
		}
		add := func(e *entry) {
			l.add(e)
			i, _ := place(e.order)
			want = slices.Insert(want, i, e)
		}
		for range 4 {
			rt.Repeat(map[string]func(*rapid.T){
				"come": func(rt *rapid.T) {
					for range rapid.IntRange(1, 2*chunkMost).Draw(rt, "jobs") {
						next += 1000
						add(&entry{order: next})
					}
				},
				"come back": func(rt *rapid.T) {
					for range rapid.IntRange(1, chunkMost).Draw(rt, "jobs") {
						e := &entry{order: rapid.Uint64Range(0, next).Draw(rt, "order")}
						if _, there := place(e.order); !there {
							add(e)
						}
					}
				},
				"go": func(rt *rapid.T) {
					for range rapid.IntRange(1, 3*chunkMost).Draw(rt, "jobs") {
						if len(want) > 0 {
							l.remove(want[0])
							want = want[1:]
						}
					}
				},
				"cancel": func(rt *rapid.T) {
					for range rapid.IntRange(1, chunkMost).Draw(rt, "jobs") {
						if len(want) > 0 {
							i := rapid.IntRange(0, len(want)-1).Draw(rt, "which")
							l.remove(want[i])
							want = slices.Delete(want, i, i+1)
						}
					}
				},
				"": func(rt *rapid.T) {
					if err := l.check(); err != nil {
						rt.Fatal(err)
					}
					if got := slices.Collect(l.all()); !slices.Equal(got, want) {
						rt.Fatalf("the line holds %d jobs, want %d, or others", len(got), len(want))
					}
					switch front := l.front(); {
					case len(want) == 0 && front == nil:
					case len(want) == 0 || front != want[0]:
						rt.Fatalf("%v goes first", front)
					}
				},
			})
		}
	})
}
