package farm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
)

const (
	// lookAtPolicy is how often the policy file is read.
	lookAtPolicy = 2 * time.Second
	// settlePolicy is how long a changed file must stay as it is: one that is
	// written in place is found half done otherwise.
	settlePolicy = 100 * time.Millisecond
)

// policyFile keeps a policy as its file says. A file that is not right leaves
// the policy as it was, is logged once and shows in a metric.
type policyFile struct {
	path   string // a file's
	live   *account.Live
	log    *slog.Logger
	failed prometheus.Gauge

	good []byte // the text in force; owned by run, as all below
	seen []byte // the last text that was judged
	why  string // the file could not be read, as it was last logged
}

// startPolicy reads the policy of that path or name, and keeps it so while the
// process lives. Nothing has to be kept of a built-in one.
func (p *Process) startPolicy(parts *parts, policy *account.Policy, path string) (*account.Live, error) {
	live := account.NewLive(policy)
	if account.BuiltIn(path) {
		return live, nil
	}
	f := &policyFile{path: path, live: live, log: p.Log, failed: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tintype_policy_reload_failed", Help: "1 while the policy file is not right, or not there, and an earlier one is in force.",
	})}
	if p.Metrics != nil {
		if err := p.Metrics.Register(f.failed); err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
	}
	f.look(false) // it is what policy was read from, or is taken up at once
	parts.service("policy file", func(ctx context.Context) error { return f.run(ctx, p.Reload) })
	return live, nil
}

// run looks at the file every 2 s and whenever it is asked to, until ctx ends.
func (f *policyFile) run(ctx context.Context, asked <-chan os.Signal) error {
	t := time.NewTicker(lookAtPolicy)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			f.look(false)
		case <-asked:
			f.look(true)
		}
	}
}

// look takes up what the file says now, if that is another text than before or
// somebody asks.
func (f *policyFile) look(asked bool) {
	text, err := os.ReadFile(f.path)
	if err == nil && !bytes.Equal(text, f.seen) && f.seen != nil {
		time.Sleep(settlePolicy)
		var again []byte
		if again, err = os.ReadFile(f.path); err == nil && !bytes.Equal(text, again) {
			return // it is being written
		}
	}
	switch {
	case err != nil:
		f.failed.Set(1)
		f.seen = []byte{}
		if f.why != err.Error() {
			f.why = err.Error()
			f.log.Error("the policy file cannot be read; the policy stays as it was", "err", err)
		}
		return
	case f.why == "" && bytes.Equal(text, f.seen) && !asked:
		return
	}
	first := f.seen == nil
	f.seen, f.why = text, ""
	policy, err := account.ParsePolicy(f.path, text)
	if bad, ok := errors.AsType[*account.PolicyError](err); ok {
		f.failed.Set(1)
		f.log.Error("the policy file is not right; the policy stays as it was", "problems", bad.Lines())
		return
	}
	f.failed.Set(0)
	if !bytes.Equal(text, f.good) {
		f.good = text
		f.live.Set(policy)
	}
	if !first {
		f.log.Info("the policy file was read anew", "file", f.path, "plans", policy.Names())
	}
}
