// Package doctor looks at a machine as `tintype up` would find it, and names
// the one command that mends what is missing.
//
// It promises to change nothing that stays: what it starts it ends, what it
// makes it removes. Each thing it looks at is one finding, and a finding that is
// not ok has a fix.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/tintype/tintype/pkg/config"
)

// A Status says how a thing is.
type Status string

// Every status.
const (
	OK   Status = "ok"
	Warn Status = "warn" // a farm runs, and something will not be as expected
	Fail Status = "fail" // a farm does not start, or renders nothing
)

// A Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // one command, or what to do; empty where it is ok
}

func ok(name, format string, args ...any) Finding {
	return Finding{Name: name, Status: OK, Detail: fmt.Sprintf(format, args...)}
}

func warn(name, fix, format string, args ...any) Finding {
	return Finding{Name: name, Status: Warn, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func fail(name, fix, format string, args ...any) Finding {
	return Finding{Name: name, Status: Fail, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// Failed is the error of an examination with findings that fail.
type Failed struct{ Failures, Findings int }

func (e *Failed) Error() string {
	return fmt.Sprintf("%d of %d checks failed: a farm will not work here until they are mended", e.Failures, e.Findings)
}

// Examine looks at everything, in the order in which it is to be mended.
func Examine(ctx context.Context, cfg config.Doctor) []Finding {
	var all []Finding
	add := func(some ...Finding) { all = append(all, some...) }
	if cfg.Seats > 0 {
		add(chromium(ctx, cfg.Render)...)
		add(fonts())
		add(sharedMemory("/dev/shm"))
	}
	add(postgresServer(ctx, cfg))
	add(stores(ctx, cfg.Backends)...)
	add(dataFolder(cfg.Data))
	add(disk(cfg.Data))
	if cfg.Seats > 0 {
		add(memory("/proc/meminfo", cfg.Seats))
	}
	add(ports(cfg)...)
	return all
}

// Run examines and tells. Its error is a *Failed where something fails.
func Run(ctx context.Context, out io.Writer, cfg config.Doctor) error {
	return tell(out, Examine(ctx, cfg), cfg.JSON)
}

func tell(out io.Writer, all []Finding, asJSON bool) error {
	failed := &Failed{Findings: len(all)}
	for _, f := range all {
		if f.Status == Fail {
			failed.Failures++
		}
	}
	if err := write(out, all, asJSON, failed.Failures == 0); err != nil {
		return err
	}
	if failed.Failures > 0 {
		return failed
	}
	return nil
}

func write(out io.Writer, all []Finding, asJSON, well bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			OK     bool      `json:"ok"`
			Checks []Finding `json:"checks"`
		}{well, all})
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Name, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(w, "\t\tfix: %s\n", f.Fix)
		}
	}
	return w.Flush()
}
