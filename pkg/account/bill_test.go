package account

import (
	"math"
	"testing"
)

// What is beyond the quota costs exactly its price: P2I-7 and its neighbours.
func TestOverrun(t *testing.T) {
	for _, tc := range []struct {
		what    string
		overage Overage
		units   int64
		over    int64
		cost    string
	}{
		{"none allowed", Overage{Above: 10, PriceNano: 5}, 5000 * UnitsPerCredit, 0, "0"},
		{"below", Overage{Above: 10, PriceNano: 1_000_000, Allowed: true}, 9 * UnitsPerCredit, 0, "0"},
		{"at it", Overage{Above: 10, PriceNano: 1_000_000, Allowed: true}, 10 * UnitsPerCredit, 0, "0"},
		{"one beyond", Overage{Above: 10, PriceNano: 1_000_000, Allowed: true}, 11 * UnitsPerCredit, UnitsPerCredit, "0.001"},
		{"an image of up to 20K", Overage{Above: 0, PriceNano: 1_000_000_000, Allowed: true}, 4, 4, "0.033333333"},
		{"rounded up", Overage{Above: 0, PriceNano: 1_000_000_000, Allowed: true}, 80, 80, "0.666666667"},
		{"no dust", Overage{Above: 5_000_000, PriceNano: 100_000, Allowed: true}, 8_000_000 * UnitsPerCredit, 3_000_000 * UnitsPerCredit, "300"},
		{"for nothing", Overage{Above: 0, Allowed: true}, UnitsPerCredit, UnitsPerCredit, "0"},
		{"beyond what a word holds", Overage{PriceNano: math.MaxInt64, Allowed: true}, 1_000_000_000_000 * UnitsPerCredit, 1_000_000_000_000 * UnitsPerCredit, "9223372036854775807000"},
	} {
		over, cost := tc.overage.Overrun(tc.units)
		if got := Decimal(cost); over != tc.over || got != tc.cost {
			t.Errorf("%s: %d units for %s, want %d for %s", tc.what, over, got, tc.over, tc.cost)
		}
	}
}
