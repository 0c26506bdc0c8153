package account

import "time"

// UnitsPerCredit is how finely usage is counted: in 1/120 credit, so that
// every published price is a whole number of units.
const UnitsPerCredit = 120

// UsageDay is what an account was charged for on one day (UTC), and how its
// jobs ended.
type UsageDay struct {
	Day     time.Time // midnight
	Units   int64     // less than 0 where more was given back than used
	Renders int       // charges that are renders
	Calls   int       // that were charged, less those that were given back

	Succeeded int // rendered for this job
	Cached    int // answered by another one's artifact
	Failed    int
	Canceled  int
	Expired   int
}

// A JobCharge is what a job cost. The zero value is nothing, or not filed yet.
type JobCharge struct {
	Units     int64     // 1/120 credit
	Period    time.Time // first day of it
	GivenBack bool      // since its artifact is lost
}
