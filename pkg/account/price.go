package account

import "math/big"

// Prices, in 1/120 credit (SEED-P2I 1 to 5). All of them are whole numbers of
// that.
const (
	UnitsPerRender = UnitsPerCredit // of a fresh success, where calls cost nothing
	UnitsPerCall   = UnitsPerCredit // of any call, where calls are counted
	UnitsPerLink   = 12             // of a signed link that the cache answers: ten a credit
)

// RenderUnits is what a fresh success costs under this quota: a credit, also
// where nothing bounds it; nothing where calls are counted, since the call that
// asked for it was.
func (q Quota) RenderUnits() int64 {
	if q.PerCall() {
		return 0
	}
	return UnitsPerRender
}

// Units is the limit in 1/120 credit.
func (q Quota) Units() int64 { return q.Limit * UnitsPerCredit }

// CallUnits is what a call costs under this quota, whatever it does.
func (q Quota) CallUnits() int64 {
	if q.PerCall() {
		return UnitsPerCall
	}
	return 0
}

// DownloadUnits is what a call costs that sends an artifact of so many bytes:
// by size where the quota counts credits, else what any call does.
func (q Quota) DownloadUnits(bytes int64) int64 {
	if q.Unit != UnitCredit {
		return q.CallUnits()
	}
	const kilo = 1024
	switch {
	case bytes <= 20*kilo:
		return UnitsPerCredit / 30
	case bytes <= 40*kilo:
		return UnitsPerCredit / 15
	case bytes <= 80*kilo:
		return UnitsPerCredit / 8
	case bytes <= 160*kilo:
		return UnitsPerCredit / 4
	case bytes <= 320*kilo:
		return UnitsPerCredit / 2
	}
	return UnitsPerCredit
}

// LinkUnits is what a call by a signed link costs that the cache answers.
func (q Quota) LinkUnits() int64 {
	if q.Unit == UnitCredit {
		return UnitsPerLink
	}
	return q.CallUnits()
}

// Over is how much of what was used has a price of its own.
func (o Overage) Over(units int64) int64 {
	if !o.Allowed {
		return 0
	}
	return max(0, units-o.Above*UnitsPerCredit)
}

// Cost is what the units beyond the threshold come to, in 10^-9 of the
// operator's currency, rounded down. Nothing below the threshold costs
// anything.
func (o Overage) Cost(units int64) *big.Int {
	cost := new(big.Int).Mul(big.NewInt(o.Over(units)), big.NewInt(o.PriceNano))
	return cost.Quo(cost, big.NewInt(UnitsPerCredit))
}
