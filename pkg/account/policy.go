package account

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tintype/tintype/deploy/policies"
)

// A Policy is the file of plans and limits, one per installation.
type Policy struct {
	Queue Queue
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
	maxPlanName  = 64        // characters
	maxFile      = 128 << 10 // bytes: the YAML library takes the square of it, at worst
)

// builtIn reads deploy/policies/default.yaml, which leaves nothing out: it is
// where other files take what they do.
var builtIn = sync.OnceValue(func() Policy {
	p, err := parsePolicy("default.yaml", policies.Default, Policy{Plans: []Plan{{}}})
	if err != nil {
		panic("account: the built-in policy: " + err.Error())
	}
	return *p
})

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

// ReadPolicy reads a policy file; the path "" is DefaultPolicy. The error is a
// *PolicyError with all that is wrong in the file, unless the file cannot be
// read at all.
func ReadPolicy(path string) (*Policy, error) {
	if path == "" {
		return DefaultPolicy(), nil
	}
	text, err := os.ReadFile(path)
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
// from its queue, a key of a plan from its first plan.
func parsePolicy(name string, text []byte, base Policy) (*Policy, error) {
	r := &reader{file: name}
	p := &Policy{Queue: base.Queue}
	if root := r.document(text, []string{"version", "queue", "plans"}, []string{"trusted_proxies", "anonymous_plan", "http_limits"}); root != nil {
		if root.need("version", "write version: 1") {
			version := 0
			root.oneOf("version", &version, 1)
		}
		if q := root.section("queue", "length", "count_running", "strict", "wait_limit_s", "per_host"); q != nil {
			p.Queue.read(q)
		}
		if root.need("plans", "a policy has at least one plan") {
			p.Plans = readPlans(root, base.Plans[0])
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
		[]string{"name", "tier", "threads", "over_threads", "retention_days", "wall_ms"},
		[]string{"slots_by", "rate", "quota", "cache_ttl_s", "formats", "dialect"}) {
		p := base
		p.Name = ""
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
	if o := s.section("over_threads", "action", "backlog", "status", "retry_after"); o != nil {
		p.OverThreads.read(o)
	}
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
