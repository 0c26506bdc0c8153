package command

import (
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/client"
)

// progress shows where a job stands: one line, redrawn, on a terminal;
// nothing elsewhere, where a line that changes is many lines.
type progress struct {
	t       Terminal
	started time.Time
	drawn   bool
}

func newProgress(t Terminal) *progress { return &progress{t: t, started: time.Now()} }

func (p *progress) show(job *client.Job) {
	if !p.t.Live {
		return
	}
	state := string(job.Status)
	if job.WaitingFor != nil {
		state += ", waiting for a " + string(*job.WaitingFor)
	}
	if job.Position != nil && *job.Position > 0 {
		state += fmt.Sprintf(", number %d in the queue", *job.Position)
	}
	// \x1b[K clears what a longer line before left behind.
	fmt.Fprintf(p.t.Err, "\r%s  %s  %.1f s\x1b[K", job.Id, state, time.Since(p.started).Seconds())
	p.drawn = true
}

// clear makes room for the next word.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.t.Err, "\r\x1b[K")
		p.drawn = false
	}
}
