package limit

import (
	"iter"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// The numbers of the ladder, as docs/limits.md publishes them.
const (
	// A strike counts half after strikeHalf.
	strikeHalf = time.Minute
	// strikesCool make an offence, which is followed by a cool-down: coolFirst,
	// twice that after each further one, coolMost at most. The next offence begins
	// offenceGap after the last one at the earliest, and they are forgotten when
	// nothing has happened for as long as the last cool-down, after its end.
	strikesCool = 10
	coolFirst   = 30 * time.Second
	coolMost    = 15 * time.Minute
	offenceGap  = 10 * time.Second
	// The offencesBlock-th offence, or strikesBlock within strikesBlockIn, is
	// followed by a block of blockFor.
	offencesBlock  = 4
	strikesBlock   = 1000
	strikesBlockIn = time.Minute
	blockFor       = time.Hour
	// When networkBlocks addresses of a network are blocked, it is too.
	networkBlocks = 4
	// The banBlocks-th block within banWithin is a ban. Networks are never banned
	// by the ladder: too many others live there.
	banBlocks = 3
	banWithin = 7 * 24 * time.Hour
)

const (
	// offenderFor is how long a subject is remembered that does nothing. By then
	// all that it did is forgiven.
	offenderFor = 2 * coolMost
	// offendersMost bounds how many are remembered.
	offendersMost = 1 << 17
)

// Ladder is what becomes of those who go on while they are throttled: the wait
// gets longer, then they are blocked, then banned. Everybody starts below its
// first step, and who waits as long as it is told stays there.
type Ladder struct {
	young, old map[account.Subject]*offender // touched since turned, and before
	turned     time.Time
	held       map[account.Subject]account.Ban // blocked and banned, or of late
	networks   int                             // how many of held are networks
	blocked    map[account.Subject][]account.Subject
	swept      time.Time
}

// offender is a subject that made strikes.
type offender struct {
	score     float64 // strikes, each halved every strikeHalf
	last      time.Time
	first     time.Time // since then, inMinute strikes
	inMinute  int
	offences  int
	offended  time.Time     // the last time
	cool      time.Duration // the last cool-down
	coolUntil time.Time
}

// NewLadder is one that nobody stands on.
func NewLadder() *Ladder {
	return &Ladder{
		young: map[account.Subject]*offender{}, old: map[account.Subject]*offender{},
		held: map[account.Subject]account.Ban{}, blocked: map[account.Subject][]account.Subject{},
	}
}

// Load takes over what the archive has, but for what this ladder knows better.
// It returns the bans that are in force by it and were not before.
func (l *Ladder) Load(now time.Time, bans []account.Ban) []account.Ban {
	var fresh []account.Ban
	for _, b := range bans {
		known, ok := l.held[b.Subject]
		if ok && !known.Since.Before(b.Since) {
			continue
		}
		l.hold(b)
		if b.InForce(now) {
			fresh = append(fresh, b)
		}
	}
	return fresh
}

// Strike takes in that a subject was seen n times while throttled. It returns
// the steps that follow from it, in order: of the subject, and of its network.
func (l *Ladder) Strike(now time.Time, who account.Subject, n int) []account.Ban {
	if n <= 0 || who == (account.Subject{}) {
		return nil
	}
	if l.held[who].InForce(now) || l.held[who.Network()].InForce(now) {
		return nil // whoever reports it has not heard of that yet
	}
	o := l.offender(now, who)
	o.forgive(now)
	o.score = o.score*math.Exp2(-float64(now.Sub(o.last))/float64(strikeHalf)) + float64(n)
	if now.Sub(o.first) >= strikesBlockIn {
		o.first, o.inMinute = now, 0
	}
	o.inMinute += n
	o.last = now
	switch {
	case o.inMinute >= strikesBlock:
		return l.block(now, who, strconv.Itoa(strikesBlock)+" requests within a minute while throttled")
	case o.score < strikesCool || o.offences > 0 && now.Sub(o.offended) < offenceGap:
		return nil
	}
	o.offences++
	o.offended, o.score = now, 0
	if o.offences >= offencesBlock {
		return l.block(now, who, strconv.Itoa(offencesBlock)+" offences: requests went on through every cool-down")
	}
	o.cool = coolFor(o.offences)
	o.coolUntil = now.Add(o.cool)
	return []account.Ban{o.ban(who)}
}

// coolFor is how long the cool-down after an offence is.
func coolFor(offence int) time.Duration {
	return min(coolFirst<<min(offence-1, 10), coolMost)
}

// forgive forgets an offender that was quiet for long enough.
func (o *offender) forgive(now time.Time) {
	quiet := o.last
	if o.coolUntil.After(quiet) {
		quiet = o.coolUntil
	}
	if o.offences > 0 && now.Sub(quiet) >= o.cool {
		*o = offender{last: now, first: now}
	}
}

func (o *offender) ban(who account.Subject) account.Ban {
	return account.Ban{
		Subject: who, Step: account.StepCooling, Since: o.offended, Until: o.coolUntil, Actor: account.ActorLadder,
		Reason: "offence " + strconv.Itoa(o.offences) + ": requests went on while throttled",
	}
}

// block keeps a subject out for a while, or for good if that was so too often
// of late; and its network, if that is full of such.
func (l *Ladder) block(now time.Time, who account.Subject, reason string) []account.Ban {
	l.forget(who)
	b := account.Ban{
		Subject: who, Step: account.StepBlocked, Since: now, Until: now.Add(blockFor), Reason: reason, Actor: account.ActorLadder,
		Blocks: append(ofLate(now, l.held[who].Blocks), now),
	}
	if len(b.Blocks) >= banBlocks && who.Kind != account.SubjectNetwork {
		b.Step, b.Until, b.Reason = account.StepBanned, time.Time{}, strconv.Itoa(banBlocks)+" blocks within seven days, the last for "+reason
	}
	l.hold(b)
	steps := []account.Ban{b}
	network := who.Network()
	if network == (account.Subject{}) || l.held[network].InForce(now) {
		return steps
	}
	there := slices.DeleteFunc(l.blocked[network], func(s account.Subject) bool { return !l.held[s].InForce(now) })
	if l.blocked[network] = there; len(there) < networkBlocks {
		return steps
	}
	return append(steps, l.block(now, network, strconv.Itoa(len(there))+" of its addresses are blocked")...)
}

func ofLate(now time.Time, blocks []time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(blocks), func(at time.Time) bool { return now.Sub(at) >= banWithin })
}

// hold keeps a block or a ban.
func (l *Ladder) hold(b account.Ban) {
	l.drop(b.Subject)
	l.held[b.Subject] = b
	if b.Subject.Kind == account.SubjectNetwork {
		l.networks++
	}
	if n := b.Subject.Network(); n != (account.Subject{}) && !slices.Contains(l.blocked[n], b.Subject) {
		l.blocked[n] = append(l.blocked[n], b.Subject)
	}
}

// drop lets go of a block or a ban, if there is one.
func (l *Ladder) drop(who account.Subject) {
	if _, ok := l.held[who]; ok && who.Kind == account.SubjectNetwork {
		l.networks--
	}
	delete(l.held, who)
}

// Set is an admin's word: out until then, or for good if that is zero.
func (l *Ladder) Set(now time.Time, who account.Subject, until time.Time, reason string) account.Ban {
	l.forget(who)
	b := account.Ban{
		Subject: who, Step: account.StepBlocked, Since: now, Until: until, Reason: reason, Actor: account.ActorAdmin, Blocks: ofLate(now, l.held[who].Blocks),
	}
	if until.IsZero() {
		b.Step = account.StepBanned
	}
	l.hold(b)
	return b
}

// Lift ends whatever keeps a subject out, and all that it did is forgiven. It
// reports whether there was anything to lift.
func (l *Ladder) Lift(now time.Time, who account.Subject) (account.Ban, bool) {
	_, cooling := l.Cooling(now, who)
	was := cooling || l.held[who].InForce(now)
	l.forget(who)
	l.drop(who)
	return account.Ban{Subject: who, Step: account.StepLifted, Since: now, Actor: account.ActorAdmin}, was
}

// Blocked is what blocks a request of these, if anything does; each of them may
// be empty. Of several the last to end is told.
func (l *Ladder) Blocked(now time.Time, id, key, address string) (account.Ban, bool) {
	var worst account.Ban
	if len(l.held) == 0 {
		return worst, false
	}
	from := account.Subject{Kind: account.SubjectAddress, ID: address}
	var network account.Subject
	if l.networks > 0 {
		network = from.Network()
	}
	for _, who := range [...]account.Subject{
		{Kind: account.SubjectAccount, ID: id}, {Kind: account.SubjectKey, ID: key}, from, network,
	} {
		if b := l.held[who]; b.InForce(now) && outlasts(b, worst) {
			worst = b
		}
	}
	return worst, worst.InForce(now)
}

// outlasts reports whether a block or ban keeps out for longer than another one,
// or than none.
func outlasts(a, b account.Ban) bool {
	return b.Step == "" || !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until))
}

// Cooling is the cool-down of a limit's subject, if it has one. It is that
// limit's alone: others go on.
func (l *Ladder) Cooling(now time.Time, who account.Subject) (account.Ban, bool) {
	if o := l.find(who); o != nil && now.Before(o.coolUntil) {
		return o.ban(who), true
	}
	return account.Ban{}, false
}

// InForce is everything that keeps anybody out.
func (l *Ladder) InForce(now time.Time) iter.Seq[account.Ban] {
	return func(yield func(account.Ban) bool) {
		for _, b := range l.held {
			if b.InForce(now) && !yield(b) {
				return
			}
		}
		for _, offenders := range []map[account.Subject]*offender{l.young, l.old} {
			for who, o := range offenders {
				if now.Before(o.coolUntil) && !yield(o.ban(who)) {
					return
				}
			}
		}
	}
}

// sweepHeld is how often ended blocks are looked for.
const sweepHeld = time.Minute

// Turn forgets what counts for nothing any more.
func (l *Ladder) Turn(now time.Time) {
	if age := now.Sub(l.turned); age >= offenderFor || len(l.young) >= offendersMost {
		if age >= 2*offenderFor {
			clear(l.young)
		}
		l.old, l.young, l.turned = l.young, map[account.Subject]*offender{}, now
	}
	if now.Sub(l.swept) < sweepHeld {
		return
	}
	l.swept = now
	for who, b := range l.held {
		if b.InForce(now) || len(ofLate(now, b.Blocks)) > 0 {
			continue
		}
		l.drop(who)
	}
	for network, addresses := range l.blocked {
		if addresses = slices.DeleteFunc(addresses, func(s account.Subject) bool { return !l.held[s].InForce(now) }); len(addresses) == 0 {
			delete(l.blocked, network)
		} else {
			l.blocked[network] = addresses
		}
	}
}

func (l *Ladder) find(who account.Subject) *offender {
	if o := l.young[who]; o != nil {
		return o
	}
	return l.old[who]
}

func (l *Ladder) offender(now time.Time, who account.Subject) *offender {
	l.Turn(now)
	o := l.find(who)
	if o == nil {
		o = &offender{last: now, first: now}
	}
	delete(l.old, who)
	l.young[who] = o
	return o
}

func (l *Ladder) forget(who account.Subject) {
	delete(l.young, who)
	delete(l.old, who)
}
