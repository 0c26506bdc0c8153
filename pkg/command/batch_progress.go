package command

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/client"
)

const (
	barWidth   = 16
	lineWidth  = 79 // of a redrawn line: one that wraps is not redrawn but piled up
	redrawn    = 100 * time.Millisecond
	plainEvery = 10 * time.Second // where lines stay
)

// batchProgress shows where a batch stands: a bar, redrawn, on a terminal; a
// line now and then elsewhere.
type batchProgress struct {
	t     Terminal
	mu    sync.Mutex         // uploads are read, and artifacts come, on other goroutines
	last  time.Time          // guarded by mu; something was shown
	line  string             // guarded by mu; the last plain one
	state client.BatchStatus // guarded by mu; that was shown
	files int64              // guarded by mu
	now   *client.Batch      // guarded by mu; nil: it is not known yet
	drawn bool               // guarded by mu
}

func newBatchProgress(t Terminal) *batchProgress { return &batchProgress{t: t} }

// say is a line that stays.
func (p *batchProgress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.t.Err, format+"\n", args...)
}

// uploaded says how far the upload is.
func (p *batchProgress) uploaded(n, of int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.t.Live && time.Since(p.last) >= redrawn {
		p.draw(fmt.Sprintf("%s  uploading, %s of %s", bar(float64(n)/float64(of)), size(n), size(of)))
	}
}

// batch says where the batch is.
func (p *batchProgress) batch(b *client.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = b
	p.refresh()
}

// file counts one that is in the folder.
func (p *batchProgress) file() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files++
	p.refresh()
}

// refresh shows what is known, if it is time. Callers hold mu.
func (p *batchProgress) refresh() {
	if p.now == nil {
		return
	}
	if p.t.Live {
		if p.now.Status != p.state || time.Since(p.last) >= redrawn {
			p.state = p.now.Status
			p.draw(fit(append([]string{bar(p.now.Progress)}, p.words()...)))
		}
		return
	}
	line := p.now.Id + ": " + strings.Join(p.words(), ", ")
	if line == p.line || p.now.Status == p.state && time.Since(p.last) < plainEvery {
		return
	}
	p.line, p.state, p.last = line, p.now.Status, time.Now()
	fmt.Fprintln(p.t.Err, line)
}

// words say where it stands, the least important last.
func (p *batchProgress) words() []string {
	b := p.now
	done := b.Counts.Total - b.Counts.Queued - b.Counts.Running
	words := []string{fmt.Sprintf("%s of %s", thousands(done), thousands(b.Counts.Total))}
	if b.Status == "validating" {
		words = []string{"reading its lines"}
		if b.Counts.Total > 0 {
			words = []string{"reading its lines, " + thousands(b.Counts.Total) + " so far"}
		}
	}
	if b.Status != "running" && b.Status != "validating" {
		state := string(b.Status)
		if b.PausedReason != nil && b.Status == "paused" {
			state += " (" + *b.PausedReason + ")"
		}
		words = append(words, state)
	}
	if b.Counts.Failed > 0 {
		words = append(words, thousands(b.Counts.Failed)+" failed")
	}
	if b.EstimatedEndAt != nil && !b.Ended() {
		if left := time.Until(*b.EstimatedEndAt); left > 0 {
			words = append(words, "about "+roughly(left)+" left")
		}
	}
	if p.files > 0 {
		words = append(words, thousands(p.files)+" here")
	}
	return words
}

// draw replaces the line. Callers hold mu.
func (p *batchProgress) draw(line string) {
	// \x1b[K clears what a longer line before left behind.
	fmt.Fprintf(p.t.Err, "\r%s\x1b[K", line)
	p.drawn, p.last = true, time.Now()
}

// clear makes room for the next word.
func (p *batchProgress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *batchProgress) wipe() {
	if p.drawn {
		fmt.Fprint(p.t.Err, "\r\x1b[K")
		p.drawn = false
	}
}

// bar is what part of 1 looks like.
func bar(part float64) string {
	full := int(min(max(part, 0), 1) * barWidth)
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + fmt.Sprintf(" %3d %%", int(min(max(part, 0), 1)*100))
}

// fit leaves out the last words of a line that is too long.
func fit(words []string) string {
	for {
		line := words[0] + "  " + strings.Join(words[1:], ", ")
		if utf8.RuneCountInString(line) <= lineWidth || len(words) <= 2 {
			return line
		}
		words = words[:len(words)-1]
	}
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count is a number of things.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return thousands(n) + " " + thing + "s"
}

func size(n int64) string {
	switch {
	case n >= 1_000_000_000:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d kB", (n+999)/1000)
}

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds())+1)
}
