package seeds

import (
	"testing"

	"github.com/tintype/tintype/pkg/needtest"
)

// seed is one of the five services: the name of its policy file, how many seats
// its farm has, and its published lines.
type seed struct {
	policy string
	seats  int
	lines  []line
}

// line is a published behaviour and its test.
type line struct {
	id   string
	test func(t *testing.T, w *world)
}

var seeds = []seed{page2images, webshot, urlbox, screenshotAPI, shotit}

// render is what a render costs, in the units of the ledger: 1/120 credit.
const render = 120

// TestSeeds has a subtest for each line, by its name. Those of one service
// share a farm on its shipped policy; each uses accounts and addresses of its
// own.
func TestSeeds(t *testing.T) {
	for _, s := range seeds {
		var w *world
		for _, l := range s.lines {
			t.Run(l.id, func(sub *testing.T) {
				needtest.Farm(sub)
				if w == nil { // with the first line that -run picks; it outlives that
					w = open(t, shipped(t, s.policy), s.seats)
				}
				l.test(sub, w)
			})
		}
		if w != nil {
			w.close()
		}
	}
}
