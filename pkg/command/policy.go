package command

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// CheckPolicy shows the limits and plans of a policy file, or everything that is
// wrong with it, one problem a line as file:line:column: key: rule.
func CheckPolicy(t Terminal, cfg config.PolicyCheck) error {
	p, err := readPolicy(t, cfg.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "%s is right: %s\n", cfg.File, queue(p.Queue))
	if p.AnonymousPlan != "" {
		fmt.Fprintf(t.Out, "clients without a key have the plan %s, each address by itself\n", p.AnonymousPlan)
	}
	for _, l := range p.HTTPLimits {
		fmt.Fprintf(t.Out, "requests of class %s by %s: %d in %s\n", l.Class, l.By, l.Requests, span(l.Window))
	}
	for _, n := range p.TrustedProxies {
		fmt.Fprintf(t.Out, "trusted in X-Forwarded-For: %s\n", n)
	}
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tTIER\tTHREADS\tOVER THREADS\tRATE\tQUOTA\tOVERAGE\tCACHE\tRETENTION\tWALL\tFORMATS\tDIALECT\tUPGRADE")
	for _, plan := range p.Plans {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plan.Name, plan.Tier, threads(plan), over(plan.OverThreads),
			rate(plan.Rate), quota(plan.Quota), overage(plan.Quota.Overage), cache(plan), span(plan.Retention), span(plan.Wall), formats(plan), plan.Dialect, orDash(plan.UpgradeURL))
	}
	return w.Flush()
}

// ShowPolicy prints a policy as a file: of a file, a built-in one, or the one
// that the farm goes by.
func ShowPolicy(ctx context.Context, t Terminal, cfg config.PolicyShow) error {
	if cfg.File == "" {
		return asAdmin(ctx, config.AdminClient{Target: cfg.Target, Admin: cfg.Admin, Folder: cfg.Folder}, func(ctx context.Context, c *client.Client) error {
			text, err := c.Policy(ctx)
			if err == nil {
				_, err = t.Out.Write(text)
			}
			return err
		})
	}
	p, err := readPolicy(t, cfg.File)
	if err == nil {
		_, err = t.Out.Write(p.Text())
	}
	return err
}

// readPolicy reads a file or a built-in policy, and tells what is wrong with it.
func readPolicy(t Terminal, file string) (*account.Policy, error) {
	p, err := account.ReadPolicy(file)
	if bad, ok := errors.AsType[*account.PolicyError](err); ok {
		fmt.Fprintln(t.Err, strings.Join(bad.Lines(), "\n"))
		noun := "problems"
		if len(bad.Problems) == 1 {
			noun = "problem"
		}
		return nil, &Usage{fmt.Sprintf("%s has %d %s", file, len(bad.Problems), noun)}
	}
	if err != nil {
		return nil, &Usage{err.Error()}
	}
	return p, nil
}

func queue(q account.Queue) string {
	out := fmt.Sprintf("a queue of %d", q.Length)
	if q.CountRunning {
		out += ", running jobs included"
	}
	if q.Strict {
		out += ", strict"
	}
	if q.WaitLimit > 0 {
		out += ", waits of up to " + span(q.WaitLimit)
	}
	if q.PerHost > 0 {
		out += fmt.Sprintf(", %d jobs of an account on one host", q.PerHost)
	}
	return out
}

func threads(p account.Plan) string {
	out := "seats"
	if p.Threads > 0 {
		out = fmt.Sprint(p.Threads)
	}
	if p.SlotsBy == account.ByKey {
		out += " a key"
	}
	return out
}

func over(o account.OverThreads) string {
	switch {
	case o.Action == account.Refuse && o.RetryAfter:
		return fmt.Sprintf("refuse, %d", o.Status)
	case o.Action == account.Refuse:
		return fmt.Sprintf("refuse, %d, no Retry-After", o.Status)
	case o.Backlog == account.Unlimited:
		return "park, unlimited"
	}
	return fmt.Sprintf("park, up to %d", o.Backlog)
}

func rate(r account.Rate) string {
	if !r.Limited() {
		return "-"
	}
	out := fmt.Sprintf("%d in %s by %s", r.Requests, span(r.Window), r.By)
	if r.Algorithm == account.FixedWindow {
		out += ", fixed"
	} else {
		out += fmt.Sprintf(", burst %d", r.Burst)
	}
	if r.Charge == account.ChargeSuccess {
		out += ", successes"
	}
	return out
}

func quota(q account.Quota) string {
	if !q.Limited() {
		return "-"
	}
	return fmt.Sprintf("%d %ss, %s, %d", q.Limit, q.Unit, q.Period, q.Status)
}

func overage(o account.Overage) string {
	if !o.Allowed {
		return "-"
	}
	price := strings.TrimRight(strings.TrimRight(big.NewRat(o.PriceNano, 1_000_000_000).FloatString(9), "0"), ".")
	return fmt.Sprintf("above %d, %s each", o.Above, price)
}

func cache(p account.Plan) string {
	if p.CacheTTL == 0 && p.Stale == 0 {
		return "-"
	}
	out := span(p.CacheTTL)
	if p.Stale > 0 {
		out += ", stale " + span(p.Stale)
	}
	return out
}

func formats(p account.Plan) string {
	if len(p.Formats) == 0 {
		return "all"
	}
	names := make([]string, len(p.Formats))
	for i, f := range p.Formats {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// span is a length of time as people say it, in days where it is whole ones.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%d d", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
