package account

import "time"

// UnitsPerCredit is how finely usage is counted: in 1/120 credit, so that
// every published price is a whole number of units.
const UnitsPerCredit = 120

// UsageDay is what an account was charged for on one day (UTC).
type UsageDay struct {
	Day     time.Time // midnight
	Units   int64
	Renders int // charges that are renders
}
