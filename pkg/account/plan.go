package account

import (
	"math"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// A Plan is what an account may use. It is data: see Policy.
type Plan struct {
	Name        string
	Tier        int // priority class, higher first
	Threads     int // slots; 0 means all seats of the farm
	SlotsBy     By  // ByKey: each key of an account has the slots; else the account has
	OverThreads OverThreads
	Rate        Rate
	Quota       Quota
	CacheTTL    time.Duration // how long a result answers identical requests that do not say; 0: not at all
	Stale       time.Duration // how much longer it does while a fresh one is made behind the answer
	Wall        time.Duration // budget of one attempt, upper bound of timeout_ms
	Retention   time.Duration // how long a finished job and its artifact are kept
	Formats     []job.Format  // that may be asked for; empty: all
	Dialect     Dialect       // whose refusals and headers answers speak; "" is Tintype
	UpgradeURL  string        // told with a refusal for quota; empty: none
}

// By says what a limit counts together.
type By string

// What is counted together. ByIP is an IPv4 address or the /64 of an IPv6 one.
const (
	ByAccount By = "account"
	ByKey     By = "key"
	ByIP      By = "ip"
)

// A Rate bounds submissions. Its zero value bounds nothing.
type Rate struct {
	Algorithm Algorithm
	Requests  int // in each Window; 0: no limit
	Window    time.Duration
	Burst     int // of TokenBucket: how many may come at once
	By        By
	Charge    Charge
}

// Limited reports whether the rate bounds anything.
func (r Rate) Limited() bool { return r.Requests > 0 }

// Algorithm is how a rate counts.
type Algorithm string

const (
	// TokenBucket refills evenly, Requests in each Window, up to Burst (GCRA).
	TokenBucket Algorithm = "token_bucket"
	// FixedWindow begins anew at each multiple of Window since 1970 UTC, so that
	// twice as many may come around its edge.
	FixedWindow Algorithm = "fixed_window"
)

// Charge is which submissions a rate counts.
type Charge string

const (
	// ChargeAll counts each one that is decided, but replays.
	ChargeAll Charge = "all"
	// ChargeSuccess gives back what did not become a fresh success.
	ChargeSuccess Charge = "success"
)

// A Quota bounds what an account uses in a period. Its zero value bounds
// nothing; renders are counted all the same.
type Quota struct {
	Unit    Unit  // "": no quota
	Limit   int64 // in units: renders, requests or credits
	Period  Period
	Status  int // over HTTP, of a refusal: 402 or 429
	Overage Overage
}

// Limited reports whether the plan has a quota.
func (q Quota) Limited() bool { return q.Unit != "" }

// PerCall reports whether calls are charged, and renders are not.
func (q Quota) PerCall() bool { return q.Unit == UnitRequest || q.Unit == UnitCredit }

// Unit is what a quota counts.
type Unit string

const (
	// UnitRender is a fresh success.
	UnitRender Unit = "render"
	// UnitRequest is any call, at the same price.
	UnitRequest Unit = "request"
	// UnitCredit is any call, and downloads by their size.
	UnitCredit Unit = "credit"
)

// Period is how often a quota begins anew.
type Period string

const (
	// MonthUTC is the calendar month, in UTC.
	MonthUTC Period = "month_utc"
	// BillingDay is a month that begins on the account's own day, in UTC.
	BillingDay Period = "billing_day"
)

// Overage lets an account go on beyond its quota, for money. Its zero value
// does not.
type Overage struct {
	Above     int64 // units from which on each has a price
	PriceNano int64 // of a unit, in 10^-9 of the operator's currency
	Allowed   bool
}

// A Dialect is a foreign API whose refusals and headers a plan speaks.
type Dialect string

// Every dialect there is.
const (
	DialectTintype       Dialect = "tintype"
	DialectPage2images   Dialect = "page2images"
	DialectWebshot       Dialect = "webshot"
	DialectUrlbox        Dialect = "urlbox"
	DialectScreenshotAPI Dialect = "screenshot-api"
	DialectShotit        Dialect = "shotit"
)

// An HTTPLimit bounds requests of a class, whatever they ask for: also those
// that are refused.
type HTTPLimit struct {
	Class    string // api, web or media
	By       By
	Requests int // in each Window, which begins as FixedWindow's do
	Window   time.Duration
}

// OverThreads is what becomes of a submission when all the threads of its
// account are in use.
type OverThreads struct {
	Action  Action // "" is Park
	Backlog int    // of Park: jobs that may be parked beyond the threads; Unlimited is bounded by the disk
	// Status and RetryAfter are how the refusal looks over HTTP; the API alone
	// reads them. 0 is the status that such refusals have anyway.
	Status     int
	RetryAfter bool // whether the refusal tells how long to wait
}

// Action is one of Park and Refuse.
type Action string

const (
	// Park accepts a job into its account's own list, where it blocks nobody.
	Park Action = "park"
	// Refuse accepts nothing beyond the threads.
	Refuse Action = "refuse"
)

// Unlimited is a number of jobs that nobody reaches.
const Unlimited = math.MaxInt

// Default is the plan of an installation that names none: the first one of
// the built-in policy.
func Default() Plan { return builtIn().Plans[0] }
