package scheduler

import (
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

// eachKey reports whether each key of an account has slots: as its plan said
// when the account was met, or when hold was last told to look.
func (b *board) eachKey(account string) bool {
	byKey, met := b.byKey[account]
	if !met {
		byKey = b.keyed(account)
		b.byKey[account] = byKey
	}
	return byKey
}

// holder is the share of the board that a job of this key would join; nil when
// there is none yet.
func (b *board) holder(account, key string) *tenant { return b.tenants[b.holderName(account, key)] }

// holders are all shares of an account.
func (b *board) holders(account string) []*tenant {
	if !b.eachKey(account) {
		if t := b.tenants[account]; t != nil {
			return []*tenant{t}
		}
		return nil
	}
	var out []*tenant
	for _, t := range b.tenants {
		if t.account == account {
			out = append(out, t)
		}
	}
	return out
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
	}
	return t
}

// hold brings an account's shares in line with its plan when that has changed
// between slots by account and slots by key. Running jobs keep their slots and
// drain; those in a queue give them back, and whoever may takes one anew.
func (b *board) hold(now time.Time, account string) {
	keyed := b.keyed(account)
	if b.eachKey(account) == keyed {
		return
	}
	old := b.holders(account)
	b.byKey[account] = keyed
	if len(old) == 0 {
		return
	}
	for _, t := range old {
		delete(b.tenants, t.name)
	}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.account != account {
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
