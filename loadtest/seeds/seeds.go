// Package seeds proves that Tintype can be each of the five services that its
// users come from: every published line of theirs is a test against a running
// farm on the policy file of that name in deploy/policies, through HTTP.
//
//	go test -run 'TestSeeds/SEED-SHOTIT-11' ./loadtest/seeds
//
// docs/seeds.md has a row for each line, with the reading taken where the
// sources are unclear; a test holds rows and tests to each other. Lines that
// are about clocks are in scheduler too, where time is virtual, and those that
// are about speed are measured by `go run ./loadtest seeds`, with the
// arithmetic that is kept here.
package seeds

import "time"

// ShotTime is what one thread of Page2images takes for one picture (SEED-P2I-11).
const ShotTime = 16 * time.Second

// A Row is one of its published table: how often a number of threads gives a
// picture.
type Row struct {
	Threads   int
	Published time.Duration
	// Misprint is the number of threads that gives what is published, where
	// Threads does not.
	Misprint int
}

// Throughput is the published table. Every row but the second is ShotTime over
// the threads; "4 threads, 2 s" is what 8 threads give, which is also the
// number of threads that the same page reckons with.
var Throughput = []Row{
	{Threads: 1, Published: 16 * time.Second},
	{Threads: 4, Published: 2 * time.Second, Misprint: 8},
	{Threads: 12, Published: 1330 * time.Millisecond},
	{Threads: 24, Published: 660 * time.Millisecond},
	{Threads: 40, Published: 400 * time.Millisecond},
}

// Every is how often so many threads give a picture that takes one of them d.
func Every(d time.Duration, threads int) time.Duration { return d / time.Duration(threads) }

// MonthlyClaim is how many pictures a month Page2images says it can take
// (SEED-P2I-13).
const MonthlyClaim = 1_000_000_000

// PerSecond is a number in a month, evenly spread over the seconds of one.
func PerSecond(monthly float64, days int) float64 {
	return monthly / (time.Duration(days) * 24 * time.Hour).Seconds()
}
