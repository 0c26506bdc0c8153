package account

import (
	"math/big"
	"strings"
	"time"
)

// A UsageEvent is one line of the ledger of charges. It is written once; what
// is given back is an event of its own.
type UsageEvent struct {
	ID       string // a job's bill has the job's id
	Account  string
	Period   time.Time // first day, a midnight in UTC
	Units    int64     // 1/120 credit; negative gives back
	Reason   string    // render, call, download, lost
	Count    int64     // how many are summed up in it
	Happened time.Time
}

// A Bill is what an account owes for a period, beside the sum of the events
// that it is owed for. The two are equal (I7).
type Bill struct {
	Account string
	Name    string // empty: an address, or an account that is gone
	Period  time.Time
	Units   int64 // of the period
	Events  int64 // how many there are
	Sum     int64 // of their units
}

// Overrun is the part of some units of usage that lies beyond the overage's
// threshold, and what it costs.
func (o Overage) Overrun(units int64) (over int64, cost *big.Rat) {
	if over = units - o.Above*UnitsPerCredit; !o.Allowed || over < 0 {
		over = 0
	}
	cost = new(big.Rat).SetFrac(
		new(big.Int).Mul(big.NewInt(over), big.NewInt(o.PriceNano)),
		big.NewInt(UnitsPerCredit*1_000_000_000),
	)
	return over, cost
}

// Nano is an amount of money from 10^-9 of it.
func Nano(n int64) *big.Rat { return big.NewRat(n, 1_000_000_000) }

// Decimal writes an amount of money exactly, or rounded half up in its ninth
// digit behind the point where it has more.
func Decimal(amount *big.Rat) string {
	text := amount.FloatString(9)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// A UsageCursor is a place in the ledger of charges: behind the event of these
// four. The zero value is the beginning.
type UsageCursor struct {
	Period   time.Time
	Account  string
	Happened time.Time
	ID       string
}

// Cursor is the place behind the event.
func (e UsageEvent) Cursor() UsageCursor { return UsageCursor{e.Period, e.Account, e.Happened, e.ID} }

// A Standing is where an account stands at a moment.
type Standing struct {
	Units int64 // used of its period, in 1/120 credit
	Keys  int   // that work
}
