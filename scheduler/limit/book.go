package limit

import (
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// Book is one rate and what everybody has taken of it. What nobody has touched
// for as long as it takes to be as good as new is forgotten.
type Book struct {
	rule   rule
	keep   int64                      // microseconds
	most   int                        // subjects in young
	young  map[account.Subject]*state // touched since turned
	old    map[account.Subject]*state // touched before that
	turned int64
	serial Receipt
	since  int64 // what was taken before is not known; 0: nothing was
}

// subjectsMost bounds the memory of one rate. Whoever has so many addresses has
// no need of another one's tokens, so that it forgives a little then, rather
// than die of it.
const subjectsMost = 1 << 19

// NewBook is a rate of which nothing has been taken.
func NewBook(r account.Rate) *Book {
	rule := ruleOf(r)
	return &Book{
		rule: rule, keep: max(rule.forget(), time.Second.Microseconds()), most: subjectsMost,
		young: map[account.Subject]*state{}, old: map[account.Subject]*state{},
	}
}

// Since is a book that does not know what was taken before: as much as could
// be, it takes it, so that a bucket was empty then.
func (b *Book) Since(since time.Time) { b.since = since.UnixMicro() }

// Left is how much a subject has left.
func (b *Book) Left(who account.Subject, now time.Time) Left {
	s := b.begin()
	if known := b.find(who); known != nil {
		s = *known
	}
	return b.rule.left(s, now.UnixMicro())
}

// Take takes one, if one is left, and says what is left now. The receipt is
// zero when none was.
func (b *Book) Take(who account.Subject, now time.Time) (Receipt, Left) {
	us := now.UnixMicro()
	s := b.touch(who, us)
	if l := b.rule.left(*s, us); l.Wait > 0 {
		return 0, l
	}
	return b.take(s, us), b.rule.left(*s, us)
}

// Replay takes one that had passed before this book was begun, or before what
// it has of the subject.
func (b *Book) Replay(who account.Subject, at time.Time) Receipt {
	return b.take(b.touch(who, at.UnixMicro()), at.UnixMicro())
}

// Memory is for how long what was taken of a rate may count.
func Memory(r account.Rate) time.Duration {
	return time.Duration(ruleOf(r).forget()) * time.Microsecond
}

func (b *Book) take(s *state, us int64) Receipt {
	b.serial++
	return b.rule.take(s, us, b.serial)
}

// GiveBack undoes a take.
func (b *Book) GiveBack(who account.Subject, r Receipt) {
	if s := b.find(who); s != nil && r != 0 {
		b.rule.giveBack(s, r)
	}
}

// Turn forgets what is as good as new. It reports whether anything is left.
func (b *Book) Turn(now time.Time) bool {
	b.turn(now.UnixMicro())
	return len(b.young)+len(b.old) > 0
}

func (b *Book) find(who account.Subject) *state {
	if s := b.young[who]; s != nil {
		return s
	}
	return b.old[who]
}

// touch finds a subject's state, or begins one, and keeps it from being
// forgotten.
func (b *Book) touch(who account.Subject, us int64) *state {
	b.turn(us)
	s := b.young[who]
	if s != nil {
		return s
	}
	if s = b.old[who]; s != nil {
		delete(b.old, who)
	} else {
		begun := b.begin()
		s = &begun
	}
	b.young[who] = s
	return s
}

// begin is the state of a subject that nothing is known of.
func (b *Book) begin() state {
	if b.since == 0 {
		return state{}
	}
	return b.rule.begin(b.since)
}

func (b *Book) turn(us int64) {
	age := us - b.turned
	switch {
	case b.turned == 0:
		b.turned = us
		return
	case age >= 2*b.keep:
		clear(b.young)
		fallthrough
	case age >= b.keep || len(b.young) >= b.most:
		b.old, b.young, b.turned = b.young, map[account.Subject]*state{}, us
	}
}
