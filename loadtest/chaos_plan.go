package main

import (
	"math/rand/v2"
	"time"
)

// act is one thing that happens to a farm. Which, to whom and for how long
// follows from the seed; the moment follows from what the run observes.
type act struct {
	what string
	who  int           // of those that it may happen to
	hold time.Duration // how long somebody stands still or stays away
	rest time.Duration // until a killed process is started again
	gap  time.Duration // before the next act, beside the farm's being back at work
}

// chances is how often an act happens in a hundred kills, and how many each
// costs. The first ones are in the shortest run, too.
var chances = []struct {
	what      string
	per, cost int
}{
	{"accepted at the api", 6, 1},
	{"told at the api", 6, 2},
	{"fed at the api", 6, 2},
	{"refused at the api", 7, 1},
	{"finished at the leader", 11, 1},
	{"upload", 13, 1},
	{"publish at the api", 15, 1},
	{"both schedulers", 3, 2},
	{"refused at the leader", 5, 1},
	{"nats", 3, 1},
	{"worker", 4, 1},
	{"leader pauses", 6, 0},
	{"append at the leader", 9, 1},
	{"accepted at the leader", 4, 1},
	{"postgres", 2, 1},
	{"leader", 4, 1},
	{"api", 3, 1},
	{"s3", 2, 1},
	{"standby", 2, 1},
	{"batch taken at the api", 3, 2},
	{"worker cut off", 3, 0},
	{"postgres away", 2, 1},
	{"s3 away", 2, 1},
	{"disk full", 1, 1},
}

// plan makes the acts of a cluster's run: as many kills, if no victim happens to
// be down. most bounds how long anything stands still or stays away.
func plan(seed uint64, kills int, most time.Duration) []act {
	r := rand.New(rand.NewPCG(seed, 0))
	var acts []act
	for left, round := kills, 0; left > 0; round++ {
		before := left
		for _, c := range chances {
			if n := (c.per*kills + 99) / 100; c.cost > 0 && round >= n || c.cost > left || c.cost == 0 && round >= (c.per*kills+50)/100 {
				continue
			}
			acts = append(acts, act{what: c.what})
			left -= c.cost
		}
		if left == before {
			break
		}
	}
	r.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	for i := range acts {
		acts[i].who = r.IntN(1 << 16)
		acts[i].hold = min(time.Second+time.Duration(r.Int64N(int64(9*time.Second))), most)
		acts[i].rest = time.Duration(r.Int64N(int64(1200 * time.Millisecond)))
		acts[i].gap = time.Duration(r.Int64N(int64(400 * time.Millisecond)))
		if acts[i].what == "postgres away" {
			acts[i].hold = min(3*acts[i].hold, most)
		}
	}
	return acts
}

// planUp makes the acts of a farm in one process, which has one part to kill.
func planUp(seed uint64, kills int) []act {
	r := rand.New(rand.NewPCG(seed, 1))
	acts := make([]act, kills)
	for i := range acts {
		acts[i] = act{what: "up", gap: time.Duration(r.Int64N(int64(1500 * time.Millisecond)))}
	}
	return acts
}
