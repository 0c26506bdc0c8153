package farm

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/telemetry"
)

// watched is a policy file that a process keeps to, on a clock of its own.
type watched struct {
	t      *testing.T
	path   string
	live   *account.Live
	log    *logged
	p      *Process
	reload chan os.Signal
}

// logged is a log.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// watching runs test beside what looks after a policy file.
func watching(t *testing.T, text string, test func(w *watched)) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	synctest.Test(t, func(t *testing.T) {
		w := &watched{t: t, path: path, log: new(logged), reload: make(chan os.Signal)}
		w.write(text)
		w.p = &Process{Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: telemetry.Registry("test"), Reload: w.reload}
		parts := newParts(slog.New(slog.DiscardHandler), context.Background())
		policy, err := account.ReadPolicy(path)
		if err == nil {
			w.live, err = w.p.startPolicy(parts, policy, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		test(w)
		if err := parts.close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *watched) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) want(when, plan string, failed float64, said int) {
	w.t.Helper()
	synctest.Wait()
	if got := w.live.Now().Plans[0].Name; got != plan {
		w.t.Errorf("%s: the plan is %s, want %s", when, got, plan)
	}
	if got := gauge(w.t, w.p, "tintype_policy_reload_failed"); got != failed {
		w.t.Errorf("%s: tintype_policy_reload_failed is %v, want %v", when, got, failed)
	}
	if got := strings.Count(w.log.String(), "level="); got != said {
		w.t.Errorf("%s: %d lines in the log, want %d:\n%s", when, got, said, w.log)
	}
}

func gauge(t *testing.T, p *Process, name string) float64 {
	t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestPolicyFileIsReadAnew(t *testing.T) {
	const one, two, three, bad = "version: 1\nplans: [{name: one}]", "version: 1\nplans: [{name: two}]", "version: 1\nplans: [{name: three}]",
		"version: 1\nplans:\n- name: two\n  tire: 3\n- name: two\n"
	watching(t, one, func(w *watched) {
		_, changed := w.live.Watch()
		time.Sleep(5 * lookAtPolicy)
		w.want("nothing has happened", "one", 0, 0)
		select {
		case <-changed:
			t.Error("a change is told where there was none")
		default:
		}

		w.write(two)
		w.want("before anybody has looked", "one", 0, 0)
		time.Sleep(lookAtPolicy + settlePolicy)
		w.want("written in place", "two", 0, 1)
		<-changed

		w.write(bad)
		for range 3 {
			time.Sleep(lookAtPolicy + settlePolicy)
			w.want("a bad file", "two", 1, 2)
		}
		for _, line := range []string{"policy.yaml:4:3: plans[0].tire: is not known; did you mean tier?", "policy.yaml:5:3: plans[1].name:"} {
			if !strings.Contains(w.log.String(), line) {
				t.Errorf("%q is not in the log:\n%s", line, w.log)
			}
		}
		w.reload <- syscall.SIGHUP
		w.want("asked about a bad file", "two", 1, 3)

		next := w.path + ".new"
		if err := os.WriteFile(next, []byte(three), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, w.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAtPolicy + settlePolicy)
		w.want("replaced by a rename", "three", 0, 4)

		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(lookAtPolicy + settlePolicy)
			w.want("removed", "three", 1, 5)
		}
		_, changed = w.live.Watch()
		w.write(three)
		time.Sleep(lookAtPolicy + settlePolicy)
		w.want("there again, as it was", "three", 0, 6)
		select {
		case <-changed:
			t.Error("the same policy is told as another one")
		default:
		}

		w.write(one)
		w.reload <- syscall.SIGHUP
		time.Sleep(settlePolicy)
		w.want("asked, before its time", "one", 0, 7)
		if !strings.Contains(w.log.String(), "plans=[one]") {
			t.Errorf("the log does not name the plans:\n%s", w.log)
		}
	})
}

// A file that is written in place is there half done for a moment, and half a
// policy may be a right one.
func TestPolicyFileHalfWritten(t *testing.T) {
	watching(t, "version: 1\nplans:\n- {name: one}\n- {name: two}\n", func(w *watched) {
		w.write("version: 1\nplans:\n- {name: half}\n")
		time.Sleep(lookAtPolicy + settlePolicy/2)
		w.write("version: 1\nplans:\n- {name: half}\n- {name: whole}\n")
		time.Sleep(settlePolicy)
		w.want("between two writes", "one", 0, 0)
		time.Sleep(lookAtPolicy + settlePolicy)
		w.want("after them", "half", 0, 1)
		if n := len(w.live.Now().Plans); n != 2 {
			t.Errorf("%d plans", n)
		}
	})
}

// Nothing is watched where the policy is built in.
func TestBuiltInPolicyStays(t *testing.T) {
	for _, name := range []string{"", "shotit"} {
		p := &Process{Log: slog.New(slog.DiscardHandler)}
		policy, err := account.ReadPolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		parts := newParts(p.Log, context.Background())
		live, err := p.startPolicy(parts, policy, name)
		if err != nil || live.Now() != policy || len(parts.stack) != 0 {
			t.Errorf("%q: %v, %d parts", name, err, len(parts.stack))
		}
	}
}
