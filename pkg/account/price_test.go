package account

import (
	"math/big"
	"testing"
)

var (
	perRender  = Quota{Unit: UnitRender, Limit: 100}
	perRequest = Quota{Unit: UnitRequest, Limit: 100}
	perCredit  = Quota{Unit: UnitCredit, Limit: 100}
)

// SEED-P2I-1 to 4: one call is one credit, whatever it does; ten loads of a
// link are one.
func TestPrices(t *testing.T) {
	for _, test := range []struct {
		name               string
		quota              Quota
		render, call, link int64
	}{
		{"none", Quota{}, 120, 0, 0},
		{"render", perRender, 120, 0, 0},
		{"request", perRequest, 0, 120, 120},
		{"credit", perCredit, 0, 120, 12},
	} {
		q := test.quota
		if q.RenderUnits() != test.render || q.CallUnits() != test.call || q.LinkUnits() != test.link {
			t.Errorf("%s: a render costs %d, a call %d, a link %d; want %+v", test.name, q.RenderUnits(), q.CallUnits(), q.LinkUnits(), test)
		}
	}
	if u := perCredit.Units(); u != 12_000 {
		t.Errorf("100 credits are %d units", u)
	}
}

// SEED-P2I-5: so many downloads a credit, by size, up to and with each bound;
// K is 1024 bytes.
func TestDownloadPrices(t *testing.T) {
	for _, test := range []struct{ bytes, downloads int64 }{
		{0, 30},
		{20 * 1024, 30},
		{20*1024 + 1, 15},
		{40 * 1024, 15},
		{40*1024 + 1, 8},
		{80 * 1024, 8},
		{80*1024 + 1, 4},
		{160 * 1024, 4},
		{160*1024 + 1, 2},
		{320 * 1024, 2},
		{320*1024 + 1, 1},
		{1 << 40, 1},
	} {
		if got := perCredit.DownloadUnits(test.bytes) * test.downloads; got != UnitsPerCredit {
			t.Errorf("%d downloads of %d bytes cost %d units, want a credit", test.downloads, test.bytes, got)
		}
	}
	if perRequest.DownloadUnits(1) != 120 || perRender.DownloadUnits(1<<30) != 0 {
		t.Error("a download is a call where calls are counted, and free where renders are")
	}
}

// SEED-P2I-7: pay as you go begins above 5,000,000 calls a month.
func TestOverage(t *testing.T) {
	o := Overage{Above: 5_000_000, PriceNano: 2_000_000, Allowed: true}
	for _, test := range []struct{ calls, nano int64 }{
		{0, 0}, {4_999_999, 0}, {5_000_000, 0}, {5_000_001, 2_000_000}, {6_000_000, 2_000_000_000_000},
	} {
		if got := o.Cost(test.calls * UnitsPerCredit); got.Cmp(big.NewInt(test.nano)) != 0 {
			t.Errorf("%d calls cost %s, want %d", test.calls, got, test.nano)
		}
	}
	if got := o.Cost(5_000_000*UnitsPerCredit + 60); got.Int64() != 1_000_000 {
		t.Errorf("half a credit above costs %s", got)
	}
	most := Overage{PriceNano: 1 << 62, Allowed: true}
	if got := most.Cost(120 << 50); got.BitLen() != 113 {
		t.Errorf("the most there can be overflows: %s", got)
	}
	if got := (Overage{}).Cost(1 << 60); got.Sign() != 0 {
		t.Errorf("no overage costs %s", got)
	}
}
