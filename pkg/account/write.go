package account

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Text is the policy as a file that ParsePolicy reads to the same: with every
// key that has a meaning there, and nothing left to a default.
func (p *Policy) Text() []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version: 1")
	line("queue:")
	line("  length: %d", p.Queue.Length)
	line("  count_running: %t", p.Queue.CountRunning)
	line("  strict: %t", p.Queue.Strict)
	line("  wait_limit_s: %d", p.Queue.WaitLimit/time.Second)
	line("  per_host: %d", p.Queue.PerHost)
	proxies := make([]string, len(p.TrustedProxies))
	for i, n := range p.TrustedProxies {
		proxies[i] = strconv.Quote(n.String())
	}
	line("trusted_proxies: [%s]", strings.Join(proxies, ", "))
	line("anonymous_plan: %s", quoted(p.AnonymousPlan))
	if len(p.HTTPLimits) == 0 {
		line("http_limits: []")
	} else {
		line("http_limits:")
	}
	for _, l := range p.HTTPLimits {
		line("- {class: %s, by: %s, requests: %d, window_s: %d}", l.Class, l.By, l.Requests, l.Window/time.Second)
	}
	line("plans:")
	for _, plan := range p.Plans {
		plan.write(line)
	}
	return []byte(b.String())
}

func (p *Plan) write(line func(format string, args ...any)) {
	line("- name: %s", quoted(p.Name))
	line("  tier: %d", p.Tier)
	if p.Threads == 0 {
		line("  threads: seats")
	} else {
		line("  threads: %d", p.Threads)
	}
	line("  slots_by: %s", orFirst(p.SlotsBy, ByAccount))
	switch o := p.OverThreads; {
	case o.Action == Refuse:
		line("  over_threads: {action: refuse, status: %d, retry_after: %t}", o.Status, o.RetryAfter)
	case o.Backlog == Unlimited:
		line("  over_threads: {action: park, backlog: unlimited}")
	default:
		line("  over_threads: {action: park, backlog: %d}", o.Backlog)
	}
	if r := p.Rate; r.Limited() {
		burst := ""
		if r.Algorithm == TokenBucket {
			burst = fmt.Sprintf(", burst: %d", r.Burst)
		}
		line("  rate: {algorithm: %s, requests: %d, window_s: %d%s, by: %s, charge: %s}", r.Algorithm, r.Requests, r.Window/time.Second, burst, r.By, r.Charge)
	}
	if q := p.Quota; q.Limited() {
		overage := ""
		if o := q.Overage; o.Allowed {
			overage = fmt.Sprintf(", overage: {above: %d, price_per_unit: %s}", o.Above, big.NewRat(o.PriceNano, 1_000_000_000).FloatString(9))
		}
		line("  quota: {unit: %s, limit: %d, period: %s, status: %d%s}", q.Unit, q.Limit, q.Period, q.Status, overage)
	}
	line("  cache_ttl_s: %d", p.CacheTTL/time.Second)
	line("  stale_while_revalidate_s: %d", p.Stale/time.Second)
	line("  retention_days: %d", p.Retention/(24*time.Hour))
	line("  wall_ms: %d", p.Wall/time.Millisecond)
	formats := make([]string, len(p.Formats))
	for i, f := range p.Formats {
		formats[i] = string(f)
	}
	line("  formats: [%s]", strings.Join(formats, ", "))
	line("  dialect: %s", orFirst(p.Dialect, DialectTintype))
	line("  upgrade_url: %s", quoted(p.UpgradeURL))
}

// quoted is a text as YAML has it in single quotes, where nothing but they
// themselves means anything (YAML 1.2 section 7.3.2).
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// orFirst is the word that the zero value stands for.
func orFirst[T ~string](word, first T) T {
	if word == "" {
		return first
	}
	return word
}
