package scheduler

import (
	"slices"
	"time"
)

// A holder of slots is an account, or each key of it where its plan says
// slots_by: key. Its share of the board is a tenant.

// holderName is under which name the jobs of a key find their tenant.
func (b *board) holderName(account, key string) string {
	if b.eachKey(account) {
		return account + "\x00" + key
	}
	return account
}

// owner is an account with shares of the board.
type owner struct {
	byKey bool // each key has one
	all   []*tenant
}

// eachKey reports whether each key of an account has slots: as its plan said
// when its first job came, or when hold was last told to look.
func (b *board) eachKey(account string) bool {
	if s := b.owners[account]; s != nil {
		return s.byKey
	}
	return b.keyed(account)
}

// holder is the share of the board that a job of this key would join; nil when
// there is none yet.
func (b *board) holder(account, key string) *tenant { return b.tenants[b.holderName(account, key)] }

// holders are all shares of an account.
func (b *board) holders(account string) []*tenant {
	if s := b.owners[account]; s != nil {
		return slices.Clone(s.all)
	}
	return nil
}

// tally is where an account's jobs stand, of all its holders.
func (b *board) tallyOf(account string) (sum tally) {
	for _, t := range b.holders(account) {
		for s, n := range t.tally {
			sum[s] += n
		}
	}
	return sum
}

// tenantOf is the share of the board that e joins.
func (b *board) tenantOf(e *entry) *tenant {
	name := b.holderName(e.account, e.env.Key)
	t := b.tenants[name]
	if t == nil {
		t = newTenant(e.account, name, b.queue.PerHost)
		b.tenants[name] = t
		s := b.owners[e.account]
		if s == nil {
			s = &owner{byKey: b.keyed(e.account)}
			b.owners[e.account] = s
		}
		s.all = append(s.all, t)
	}
	return t
}

// dropShare forgets a share of the board that says nothing any more.
func (b *board) dropShare(t *tenant) {
	if b.tenants[t.name] != t {
		return
	}
	delete(b.tenants, t.name)
	s := b.owners[t.account]
	if s.all = slices.DeleteFunc(s.all, func(other *tenant) bool { return other == t }); len(s.all) == 0 {
		delete(b.owners, t.account)
	}
}

// hold brings an account's shares in line with its plan when that has changed
// between slots by account and slots by key. Running jobs keep their slots and
// drain; those in a queue give them back, and whoever may takes one anew.
func (b *board) hold(now time.Time, account string) {
	old, keyed := b.owners[account], b.keyed(account)
	if old == nil || old.byKey == keyed {
		return
	}
	for _, t := range old.all {
		delete(b.tenants, t.name)
	}
	b.owners[account] = &owner{byKey: keyed}
	for _, id := range b.rolls[account].ids {
		e := b.entries[id]
		if e == nil || e.end != nil {
			continue
		}
		if e.standing == queued {
			b.dequeue(e, now)
			b.stand(e, parked)
		}
		e.tenant = b.tenantOf(e)
		e.tenant.tally[e.standing]++
		switch e.standing {
		case running:
			e.tenant.occupy(e, now)
		case parked:
			e.tenant.park(e, now)
		}
	}
	b.fill(now, b.holders(account)...)
}
