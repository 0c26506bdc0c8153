package command

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/config"
)

// CheckPolicy shows the plans of a policy file, or everything that is wrong
// with it, one problem a line as file:line:column: key: rule.
func CheckPolicy(t Terminal, cfg config.PolicyCheck) error {
	p, err := account.ReadPolicy(cfg.File)
	if bad, ok := errors.AsType[*account.PolicyError](err); ok {
		fmt.Fprintln(t.Err, strings.Join(bad.Lines(), "\n"))
		noun := "problems"
		if len(bad.Problems) == 1 {
			noun = "problem"
		}
		return &Usage{fmt.Sprintf("%s has %d %s", cfg.File, len(bad.Problems), noun)}
	}
	if err != nil {
		return &Usage{err.Error()}
	}
	fmt.Fprintf(t.Out, "%s is right: a queue of %d and these plans\n", cfg.File, p.Queue.Length)
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tTIER\tTHREADS\tOVER THREADS\tRETENTION\tWALL")
	for _, plan := range p.Plans {
		threads := "seats"
		if plan.Threads > 0 {
			threads = fmt.Sprint(plan.Threads)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d d\t%s\n", plan.Name, plan.Tier, threads, over(plan.OverThreads), plan.Retention/(24*time.Hour), plan.Wall)
	}
	return w.Flush()
}

func over(o account.OverThreads) string {
	switch {
	case o.Action == account.Refuse:
		return fmt.Sprintf("refuse, %d", o.Status)
	case o.Backlog == account.Unlimited:
		return "park, unlimited"
	}
	return fmt.Sprintf("park, up to %d", o.Backlog)
}
