package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/config"
)

func TestCheckPolicy(t *testing.T) {
	check := func(text string) (out, errOut string, err error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var s screen
		err = CheckPolicy(s.terminal(false), config.PolicyCheck{File: path})
		return s.out.String(), s.err.String(), err
	}
	out, said, err := check("version: 1\nqueue: {length: 8}\nplans:\n- {name: free, threads: 2}\n- {name: pro, tier: 5, over_threads: {action: refuse, status: 402}}\n")
	if err != nil || said != "" {
		t.Fatalf("%v %q", err, said)
	}
	for _, want := range []string{"a queue of 8", "free  0     2        park, up to 100000  30 d       1m0s", "pro   5     seats    refuse, 402"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out, said, err = check("version: 1\nplans:\n- {name: free, rate: {}, tiers: 1}\n")
	if ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "has 2 problems") || out != "" {
		t.Errorf("%v %q", err, out)
	}
	for _, want := range []string{
		"policy.yaml:3:16: plans[0].rate.requests: is missing: how many in each window\n", "policy.yaml:3:26: plans[0].tiers: is not known; did you mean tier?\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if _, _, err := check(""); ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "has 1 problem") || strings.Contains(err.Error(), "problems") {
		t.Errorf("%v", err)
	}
	if err := CheckPolicy((&screen{}).terminal(false), config.PolicyCheck{File: "/does/not/exist"}); ExitCode(err) != ExitUsage {
		t.Errorf("a file that is not there: %v", err)
	}
}
