package account

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tintype/tintype/deploy/policies"
	"github.com/tintype/tintype/pkg/job"
)

// A Policy is the file of plans and limits, one per installation.
type Policy struct {
	Queue Queue
	// TrustedProxies are believed when they say in X-Forwarded-For whom they
	// speak for. Empty: nobody is.
	TrustedProxies []netip.Prefix
	// AnonymousPlan is the plan of clients without a key, each address of which is
	// an account of its own. Empty: a key is needed.
	AnonymousPlan string
	HTTPLimits    []HTTPLimit
	// Plans are at least one, each with a name of its own. The first is that
	// of accounts that name none, or one that is not there any more.
	Plans []Plan
}

// Queue is what bounds and orders the waiting of all accounts together.
type Queue struct {
	Length       int           // L: jobs of a tier and above that may wait for their first start
	CountRunning bool          // running jobs count in L too
	Strict       bool          // a lower tier never goes before a higher one
	WaitLimit    time.Duration // how long a job may wait before it ends as expired; 0: for ever
	PerHost      int           // running jobs of one account on one host; 0: no limit
}

// Bounds of what a policy file may say. They are far from what a farm can use
// and keep sums of them from overflowing.
const (
	maxLength    = 1_000_000
	maxWait      = 30 * 24 * 60 * 60 // seconds
	maxTier      = 1_000_000_000
	maxThreads   = 1_000_000
	maxBacklog   = 1_000_000_000
	maxRetention = 3650 // days
	minWall      = 1_000
	maxWall      = 60 * 60 * 1_000 // milliseconds
	maxPlans     = 1_000
	maxProxies   = 1_000
	maxRequests  = 10_000_000
	maxWindow    = 60 * 60 // seconds: what a standby has to remember of submissions
	maxQuota     = 1_000_000_000_000
	maxTTL       = int(job.MaxTTL / time.Second) // seconds

	maxHTTPLimits = 9         // three classes, by three identities
	maxPlanName   = 64        // characters
	maxFile       = 128 << 10 // bytes: the YAML library takes the square of it, at worst
)

// builtIn reads deploy/policies/default.yaml, whose first plan leaves nothing
// out: it is where other plans, also those beside it, take what they do.
var builtIn = sync.OnceValue(func() Policy {
	text, _ := policies.Text(DefaultName)
	base := Policy{Plans: []Plan{{}}}
	for range 2 {
		p, err := parsePolicy(DefaultName+".yaml", text, base)
		if err != nil {
			panic("account: the built-in policy: " + err.Error())
		}
		base = *p
	}
	return base
})

// DefaultName is the built-in policy of an installation that names none.
const DefaultName = "default"

// BuiltIns are the names of the policies that come with Tintype: default, and
// one for each service whose published limits it can keep.
func BuiltIns() []string { return policies.Names() }

// DefaultPolicy is the policy of an installation that names no file.
func DefaultPolicy() *Policy {
	p := builtIn()
	p.Plans = slices.Clone(p.Plans)
	return &p
}

// Plan finds a plan by its name. A name that is not there gets the first plan,
// and false.
func (p *Policy) Plan(name string) (Plan, bool) {
	for _, plan := range p.Plans {
		if plan.Name == name {
			return plan, true
		}
	}
	return p.Plans[0], false
}

// Names are the names of the plans, in the file's order.
func (p *Policy) Names() []string {
	names := make([]string, len(p.Plans))
	for i, plan := range p.Plans {
		names[i] = plan.Name
	}
	return names
}

// BuiltIn reports whether a path is the bare name of a built-in policy, or
// empty, which is the default one. A file of such a name is written ./shotit.
func BuiltIn(path string) bool { return path == "" || slices.Contains(BuiltIns(), path) }

// ReadPolicy reads a policy file, or the built-in policy of that name; the path
// "" is DefaultPolicy. The error is a *PolicyError with all that is wrong in the
// file, unless the file cannot be read at all.
func ReadPolicy(path string) (*Policy, error) {
	if path == "" {
		return DefaultPolicy(), nil
	}
	if text, ok := policies.Text(path); ok {
		return ParsePolicy(path+".yaml", text)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(path) == path {
		return nil, fmt.Errorf("%w%s; built in are %s", err, meant(path, BuiltIns()), strings.Join(BuiltIns(), ", "))
	}
	if err != nil {
		return nil, err
	}
	return ParsePolicy(path, text)
}

// ParsePolicy reads the text of a policy file. The name goes into its error,
// which is a *PolicyError.
func ParsePolicy(name string, text []byte) (*Policy, error) {
	return parsePolicy(name, text, builtIn())
}

// parsePolicy takes what the file leaves out from base: a key of the queue
// from its queue, a key of a plan from its first plan. A limit that is left out
// is none.
func parsePolicy(name string, text []byte, base Policy) (*Policy, error) {
	r := &reader{file: name}
	p := &Policy{Queue: base.Queue}
	if root := r.document(text, "version", "queue", "trusted_proxies", "anonymous_plan", "http_limits", "plans"); root != nil {
		if root.need("version", "write version: 1") {
			version := 0
			root.oneOf("version", &version, 1)
		}
		if q := root.section("queue", "length", "count_running", "strict", "wait_limit_s", "per_host"); q != nil {
			p.Queue.read(q)
		}
		p.TrustedProxies = root.prefixes("trusted_proxies", maxProxies)
		p.HTTPLimits = readHTTPLimits(root)
		if root.need("plans", "a policy has at least one plan") {
			p.Plans = readPlans(root, base.Plans[0])
		}
		// Without a name of some plan nobody knows whether it was to be this one.
		if root.text("anonymous_plan", &p.AnonymousPlan) && p.AnonymousPlan != "" && len(p.Plans) > 0 &&
			!slices.Contains(p.Names(), p.AnonymousPlan) && !slices.Contains(p.Names(), "") {
			root.problem("anonymous_plan", "%q is none of the plans%s", p.AnonymousPlan, meant(p.AnonymousPlan, p.Names()))
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (q *Queue) read(s *section) {
	wait := int(q.WaitLimit / time.Second)
	s.integer("length", &q.Length, 1, maxLength, " jobs")
	s.boolean("count_running", &q.CountRunning)
	s.boolean("strict", &q.Strict)
	s.integer("wait_limit_s", &wait, 0, maxWait, " seconds")
	s.integer("per_host", &q.PerHost, 0, maxLength, " jobs")
	q.WaitLimit = time.Duration(wait) * time.Second
}

func readPlans(root *section, base Plan) []Plan {
	var plans []Plan
	lines := map[string]int{} // of each plan's name
	for _, s := range root.sections("plans", maxPlans,
		"name", "tier", "threads", "slots_by", "over_threads", "rate", "quota", "cache_ttl_s", "stale_while_revalidate_s",
		"retention_days", "wall_ms", "formats", "dialect", "upgrade_url") {
		p := base
		p.Name, p.Rate, p.Quota, p.Formats = "", Rate{}, Quota{}, nil
		p.read(s)
		if first := lines[p.Name]; first != 0 {
			s.problem("name", "%q is the name of the plan in line %d too; give each its own", shorten(p.Name), first)
		} else if p.Name != "" {
			lines[p.Name] = s.line("name")
		}
		plans = append(plans, p)
	}
	return plans
}

func (p *Plan) read(s *section) {
	if s.need("name", "accounts are given a plan by its name") && s.text("name", &p.Name) {
		if rule := badName(p.Name); rule != "" {
			s.problem("name", "%s, not %q", rule, shorten(p.Name))
		}
	}
	s.integer("tier", &p.Tier, -maxTier, maxTier, "")
	s.integerOr("threads", &p.Threads, 1, maxThreads, " slots", "seats", 0)
	retention, wall := int(p.Retention/(24*time.Hour)), int(p.Wall/time.Millisecond)
	s.integer("retention_days", &retention, 1, maxRetention, " days")
	s.integer("wall_ms", &wall, minWall, maxWall, " milliseconds")
	p.Retention, p.Wall = time.Duration(retention)*24*time.Hour, time.Duration(wall)*time.Millisecond
	s.word("slots_by", (*string)(&p.SlotsBy), string(ByAccount), string(ByKey))
	if o := s.section("over_threads", "action", "backlog", "status", "retry_after"); o != nil {
		p.OverThreads.read(o)
	}
	if r := s.section("rate", "algorithm", "requests", "window_s", "burst", "by", "charge"); r != nil {
		p.Rate = readRate(r)
	}
	if q := s.section("quota", "unit", "limit", "period", "status", "overage"); q != nil {
		p.Quota = readQuota(q)
	}
	ttl, stale := int(p.CacheTTL/time.Second), int(p.Stale/time.Second)
	s.integer("cache_ttl_s", &ttl, 0, maxTTL, " seconds")
	s.integer("stale_while_revalidate_s", &stale, 0, maxTTL, " seconds")
	p.CacheTTL, p.Stale = time.Duration(ttl)*time.Second, time.Duration(stale)*time.Second
	for _, f := range s.words("formats", job.FormatNames()...) {
		p.Formats = append(p.Formats, job.Format(f))
	}
	s.word("dialect", (*string)(&p.Dialect), string(DialectTintype), string(DialectPage2images), string(DialectWebshot),
		string(DialectUrlbox), string(DialectScreenshotAPI), string(DialectShotit))
	if s.text("upgrade_url", &p.UpgradeURL) && p.UpgradeURL != "" {
		if u, err := url.Parse(p.UpgradeURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			s.problem("upgrade_url", "must be an http or https URL, not %q", shorten(p.UpgradeURL))
		}
	}
}

func readHTTPLimits(root *section) []HTTPLimit {
	if root.members["http_limits"] == nil || root.emptyList("http_limits") {
		return nil
	}
	var limits []HTTPLimit
	seen := map[HTTPLimit]bool{}
	for _, s := range root.sections("http_limits", maxHTTPLimits, "class", "by", "requests", "window_s") {
		l, window := HTTPLimit{By: ByIP}, 60
		if s.need("class", "one of api, web and media") {
			s.word("class", &l.Class, "api", "web", "media")
		}
		s.word("by", (*string)(&l.By), string(ByIP), string(ByKey), string(ByAccount))
		if what := (HTTPLimit{Class: l.Class, By: l.By}); seen[what] {
			s.problem("class", "%s by %s is limited twice; the lower one is enough", l.Class, l.By)
		} else {
			seen[what] = true
		}
		if s.need("requests", "how many in each window") {
			s.integer("requests", &l.Requests, 1, maxRequests, " requests")
		}
		s.integer("window_s", &window, 1, maxWindow, " seconds")
		l.Window = time.Duration(window) * time.Second
		limits = append(limits, l)
	}
	return limits
}

// readRate finds which keys go with the algorithm.
func readRate(s *section) Rate {
	r, window := Rate{Algorithm: TokenBucket, By: ByAccount, Charge: ChargeAll}, 60
	s.word("algorithm", (*string)(&r.Algorithm), string(TokenBucket), string(FixedWindow))
	if s.need("requests", "how many in each window") {
		s.integer("requests", &r.Requests, 1, maxRequests, " requests")
	}
	s.integer("window_s", &window, 1, maxWindow, " seconds")
	r.Window = time.Duration(window) * time.Second
	if r.Algorithm == FixedWindow {
		s.reject("algorithm: token_bucket", "burst")
	} else {
		r.Burst = r.Requests
		s.integer("burst", &r.Burst, 1, maxRequests, " requests")
	}
	s.word("by", (*string)(&r.By), string(ByAccount), string(ByKey), string(ByIP))
	s.word("charge", (*string)(&r.Charge), string(ChargeAll), string(ChargeSuccess))
	return r
}

func readQuota(s *section) Quota {
	q := Quota{Unit: UnitRender, Period: MonthUTC, Status: 402}
	s.word("unit", (*string)(&q.Unit), string(UnitRender), string(UnitRequest), string(UnitCredit))
	limit := 0
	if s.need("limit", "how many units in each period") {
		s.integer("limit", &limit, 1, maxQuota, " units")
	}
	q.Limit = int64(limit)
	s.word("period", (*string)(&q.Period), string(MonthUTC), string(BillingDay))
	s.oneOf("status", &q.Status, 402, 429)
	if o := s.section("overage", "above", "price_per_unit"); o != nil {
		above := limit
		o.integer("above", &above, 0, maxQuota, " units")
		q.Overage = Overage{Above: int64(above), Allowed: true}
		if o.need("price_per_unit", "what each unit above costs") {
			o.decimal("price_per_unit", &q.Overage.PriceNano, 9)
		}
		if above < limit {
			o.problem("above", "is less than the quota's limit: units that the quota has are paid for")
		}
	}
	return q
}

// read finds which of its keys go together.
func (o *OverThreads) read(s *section) {
	action := string(Park)
	if !s.word("action", &action, string(Park), string(Refuse)) {
		return // the rest goes with one or the other
	}
	if Action(action) == Park {
		o.Action = Park
		s.integerOr("backlog", &o.Backlog, 0, maxBacklog, " jobs", "unlimited", Unlimited)
		s.reject("action: refuse", "status", "retry_after")
		return
	}
	*o = OverThreads{Action: Refuse, Status: 429, RetryAfter: true}
	s.oneOf("status", &o.Status, 402, 429)
	s.boolean("retry_after", &o.RetryAfter)
	s.reject("action: park", "backlog")
}

// badName says what a plan's name must be, if it is not.
func badName(name string) string {
	if n := utf8.RuneCountInString(name); n < 1 || n > maxPlanName {
		return "must be 1 to " + strconv.Itoa(maxPlanName) + " characters long"
	}
	for i, c := range name {
		if !unicode.IsPrint(c) || c == ' ' && (i == 0 || i == len(name)-1) {
			return "must be printable characters, without a blank at its ends"
		}
	}
	return ""
}

// PolicyError is everything that is wrong with a policy file, from its top to
// its end.
type PolicyError struct {
	File     string
	Problems []PolicyProblem
}

// A PolicyProblem is one of them.
type PolicyProblem struct {
	Line, Column int    // from 1
	Key          string // such as plans[1].tier; "" is the file as a whole
	Rule         string // that was broken, and the way out
}

// Lines are the problems, each with the place it is in.
func (e *PolicyError) Lines() []string {
	out := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		out[i] = fmt.Sprintf("%s:%d:%d: ", e.File, p.Line, p.Column)
		if p.Key != "" {
			out[i] += p.Key + ": "
		}
		out[i] += p.Rule
	}
	return out
}

func (e *PolicyError) Error() string {
	if len(e.Problems) == 1 {
		return e.Lines()[0]
	}
	return fmt.Sprintf("%d problems:\n  %s", len(e.Problems), strings.Join(e.Lines(), "\n  "))
}
