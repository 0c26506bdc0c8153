// Package account is who uses the farm and how much of it: accounts, their
// keys, and the policy file of the plans that bound them.
//
// It promises that a key's secret is never kept, only its digest, and that a
// policy file is taken whole or refused with all that is wrong in it. It holds
// no state: rows live in pkg/store, and the leader alone counts.
package account

import "time"

// An Update is what an admin changes of an account; nil leaves it as it is.
type Update struct {
	Plan       *string
	Suspended  *bool
	BillingDay *int // 1 to 31
}

// An Account owns jobs, keys and a bill.
type Account struct {
	ID         string // acc_ + 26 Crockford characters
	Name       string // unique, chosen by the admin
	Plan       string // name of a Plan
	Suspended  bool
	BillingDay int // 1 to 31, on which its periods begin where the plan bills by it; 0 at creation: that day
	CreatedAt  time.Time
}
