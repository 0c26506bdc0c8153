package scheduler

import (
	"slices"
	"sort"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// bills is what accounts were charged since the archive summed it up, and what
// their unfinished jobs may come to. It is a part of the fold: the leader's
// and a fresh one are equal from the same frame on.
type bills struct {
	since uint64 // what was charged after this frame is here
	of    map[period]*bill
	// once has the events that are not charged twice, by the frame they are in:
	// those that give back what a job cost, and what a replica has named.
	once map[string]uint64
}

// period is one period of one account.
type period struct {
	account string
	day     int32 // first one, as account.DayNumber has it
}

// bill is what one period comes to.
type bill struct {
	// reserved is the sum of what unfinished jobs will cost if they succeed. It
	// changes where jobs enter and leave the unfinished ones, and nowhere else.
	reserved int64
	pictures map[string]*pictureBill // by cache key
	spent    []sum                   // by frame
	before   int64                   // the total at since
	told     []step
}

// sum is what had been charged by the end of a frame, since this fold began.
type sum struct {
	seq   uint64
	total int64
}

// step is a share of the quota that an event has told the account of.
type step struct {
	seq     uint64
	percent uint32
}

func newBills() bills { return bills{of: map[period]*bill{}, once: map[string]uint64{}} }

func (b *bills) bill(p period) *bill {
	it := b.of[p]
	if it == nil {
		it = new(bill)
		b.of[p] = it
	}
	return it
}

// reserve holds what an unfinished job may cost, or lets go of it. The job has
// joined the others of its picture by then, or left them.
func (f *facts) reserve(e *entry, sign int64) {
	if e.units != 0 {
		p := period{e.account, e.period}
		it := f.bills.bill(p)
		if picture := e.shares(); picture == "" {
			it.reserved += sign * e.units
		} else {
			it.count(e, picture, sign)
			f.price(p, picture)
		}
		f.bills.drop(p, it)
	}
	if head := f.twin(e.env.CacheKey); head != nil { // perhaps another one than before
		f.price(period{head.account, head.period}, head.shares())
	}
}

// pictureBill is the unfinished jobs of one picture. Those that follow are charged
// together once at most: for the one among them that has to take its turn
// because what they followed came to nothing. Until then that is what may cost
// something, so nothing more is held for them.
type pictureBill struct {
	others    int64 // units of those that follow nobody
	followers int
	units     int64 // of a follower
	held      int64 // is in the bill's reserved
}

func (b *bill) count(e *entry, picture string, sign int64) {
	c := b.pictures[picture]
	if c == nil {
		c = new(pictureBill)
		if b.pictures == nil {
			b.pictures = map[string]*pictureBill{}
		}
		b.pictures[picture] = c
	}
	if e.place == pb.Place_PLACE_FOLLOWER {
		c.followers += int(sign)
		c.units = max(c.units, e.units)
	} else {
		c.others += sign * e.units
	}
}

// price holds what a picture may cost now.
func (f *facts) price(p period, picture string) {
	it := f.bills.of[p]
	if it == nil || it.pictures[picture] == nil {
		return
	}
	c := it.pictures[picture]
	cost := c.others
	if c.followers > 0 && (c.others == 0 || f.turned(p, picture)) {
		cost += c.units
	}
	it.reserved += cost - c.held
	if c.held = cost; c.followers == 0 && c.others == 0 {
		delete(it.pictures, picture)
	}
}

// turned reports whether a job that was accepted to follow is the one that the
// others of its picture wait for. Others that follow nobody may be behind it:
// they came when the account's plan let nothing wait.
func (f *facts) turned(p period, picture string) bool {
	head := f.twin([]byte(picture))
	return head != nil && head.place == pb.Place_PLACE_FOLLOWER && p == period{head.account, head.period}
}

// shares is the picture that e may be charged for together with others; empty
// where it has none.
func (e *entry) shares() string {
	if e.env == nil || e.env.Force {
		return "" // it renders whatever the others do
	}
	return string(e.env.CacheKey)
}

// spend adds a charge.
func (b *bills) spend(seq uint64, p period, units int64) {
	if units == 0 {
		return
	}
	it := b.bill(p)
	n := len(it.spent)
	if n > 0 && it.spent[n-1].seq == seq {
		it.spent[n-1].total += units
		return
	}
	it.spent = append(it.spent, sum{seq, it.total() + units})
}

// charged adds an event, unless it is one of those that count once.
func (b *bills) charged(seq uint64, c *pb.Charged) {
	if _, twice := b.once[c.Id]; twice {
		return
	}
	if countsOnce(c) {
		b.once[c.Id] = seq
	}
	b.spend(seq, period{c.Account, c.Period}, c.Units)
}

// met is what was charged to a period since this fold knows of it.
func (b *bills) met(p period) int64 {
	if it := b.of[p]; it != nil {
		return it.total()
	}
	return 0
}

// tell notes that an account was told how far it is.
func (b *bills) tell(seq uint64, q *pb.QuotaReached) {
	it := b.bill(period{q.Account, q.Period})
	it.told = append(it.told, step{seq, q.Percent})
}

// drop forgets a bill that says nothing.
func (b *bills) drop(p period, it *bill) {
	if it.reserved == 0 && len(it.spent) == 0 && len(it.told) == 0 {
		delete(b.of, p)
	}
}

// prune forgets what was charged up to a frame: whoever remembers an older sum
// has added it up before.
func (b *bills) prune(to uint64) {
	if to <= b.since {
		return
	}
	b.since = to
	for p, it := range b.of {
		if i := it.index(to); i > 0 {
			it.before = it.spent[i-1].total
			it.spent = slices.Clone(it.spent[i:])
		}
		it.told = slices.DeleteFunc(it.told, func(s step) bool { return s.seq <= to })
		b.drop(p, it)
	}
	for id, seq := range b.once {
		if seq <= to {
			delete(b.once, id)
		}
	}
}

func (b *bill) total() int64 {
	if n := len(b.spent); n > 0 {
		return b.spent[n-1].total
	}
	return b.before
}

// index is the first sum after a frame.
func (b *bill) index(seq uint64) int {
	return sort.Search(len(b.spent), func(i int) bool { return b.spent[i].seq > seq })
}

// at is the total at the end of a frame that is not before since.
func (b *bill) at(seq uint64) int64 {
	if i := b.index(seq); i > 0 {
		return b.spent[i-1].total
	}
	return b.before
}

// after is what was charged after a frame.
func (b *bill) after(seq uint64) int64 { return b.total() - b.at(seq) }

// costs takes what a job costs and when from its event. A release that did not
// say charged every fresh success one credit, to the month of its acceptance.
func (e *entry) costs(units int64, day int32) {
	e.units, e.period = units, day
	if day == 0 {
		e.units, e.period = account.UnitsPerCredit, periodOf(0, e.acceptedUS)
	}
}
