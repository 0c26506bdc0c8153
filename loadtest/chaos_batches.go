package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tintype/tintype/loadtest/audit"
)

const (
	// batchPlan is the plan of the account that uploads batches.
	batchPlan = "lines"
	// failingLine is that every so-many-th line fails, and badLine that every
	// so-many-th is none.
	failingLine, badLine = 13, 17
)

// stopSignal lets a process do nothing more until it is killed.
const stopSignal = syscall.SIGSTOP

// batches uploads one batch after the other until intake ends, and sees each to
// its end.
func (c *crowd) batches(intake, ctx context.Context, most int) {
	for n := uint64(1); intake.Err() == nil; n++ {
		r := rand.New(rand.NewPCG(c.seed, 1<<62+n))
		u := &uploader{
			crowd: c, r: r, lines: lines{
				run: fmt.Sprintf("%s-b%d", c.run, n), n: 20 + r.IntN(most),
				bad: func(line int) bool { return line%badLine == 0 }, fails: func(line int) bool { return line%failingLine == 0 },
			},
			batch: audit.Batch{Account: c.arena.named[batchPlan], Bad: map[int]bool{}, Passes: 1},
		}
		u.whole(ctx)
	}
}

// uploader is the client of one batch.
type uploader struct {
	*crowd
	lines
	r     *rand.Rand
	batch audit.Batch
	turn  atomic.Int64
	path  string
}

// run sees the batch through.
func (u *uploader) whole(ctx context.Context) {
	u.batch.Lines = u.n
	for line := 1; line <= u.n; line++ {
		if u.invalid(line) {
			u.batch.Bad[line] = true
		}
	}
	for u.path == "" {
		if ctx.Err() != nil {
			return // whether it was made nobody knows: its lines will be someone's
		}
		u.upload(ctx)
	}
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.uploads = append(u.uploads, u.batch)
	}()
	switch u.r.IntN(4) {
	case 0:
		u.rest(ctx, time.Duration(u.r.IntN(2000))*time.Millisecond)
		u.act(ctx, "cancel")
	case 1:
		u.rest(ctx, time.Duration(u.r.IntN(1000))*time.Millisecond)
		u.act(ctx, "pause")
		u.rest(ctx, 500*time.Millisecond)
		u.act(ctx, "resume")
	}
	s := u.ended(ctx)
	if s == nil {
		return
	}
	u.batch.Ends = 1
	if s.Status == "completed" && u.r.IntN(2) == 0 && u.act(ctx, "retry-failed") {
		u.batch.Passes++
		if s = u.ended(ctx); s == nil {
			return
		}
		u.batch.Ends++
	}
	u.batch.State, u.batch.Counts = s.Status, s.Counts
	u.results(ctx)
}

// to is the line to a replica, one after the other.
func (u *uploader) do(ctx context.Context, method, path, contentType, key string, body []byte) (*http.Response, []byte, error) {
	c := &conn{
		host: u.arena.hosts[int(u.turn.Add(1))%len(u.arena.hosts)], key: u.arena.keys[u.batch.Account], contentType: contentType, idempotency: key,
	}
	defer c.close()
	return c.do(ctx, 20*time.Second, method, path, body)
}

func (u *uploader) rest(ctx context.Context, most time.Duration) { sleep(ctx, most/2+rand.N(most/2+1)) }

// upload tries to make the batch; under its key it is one, however often.
func (u *uploader) upload(ctx context.Context) {
	var text strings.Builder
	for line := 1; line <= u.n; line++ {
		text.WriteString(u.text(line))
	}
	resp, answer, err := u.do(ctx, http.MethodPost, "/v1/batches?on_error=skip", "application/x-ndjson", u.lines.run, []byte(text.String()))
	var s batchState
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusAccepted:
		if err := json.Unmarshal(answer, &s); err != nil || s.ID == "" {
			u.odds("POST /v1/batches was answered %s %.300s", resp.Status, answer)
			return
		}
		u.batch.ID, u.path = s.ID, "/v1/batches/"+s.ID
		u.mu.Lock()
		u.open = append(u.open, s.ID)
		u.mu.Unlock()
		return
	case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests:
		u.odds("POST /v1/batches was answered %s %.300s", resp.Status, answer)
	}
	u.rest(ctx, 300*time.Millisecond)
}

// act asks until it is answered. It is false when the batch was past that.
func (u *uploader) act(ctx context.Context, what string) bool {
	for ctx.Err() == nil {
		resp, text, err := u.do(ctx, http.MethodPost, u.path+"/"+what, "", "", nil)
		switch {
		case err != nil || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
			u.rest(ctx, 200*time.Millisecond)
		case resp.StatusCode < 300:
			return true
		case resp.StatusCode == http.StatusConflict:
			return false
		default:
			u.odds("POST %s/%s was answered %s %.300s", u.path, what, resp.Status, text)
			return false
		}
	}
	return false
}

// ended waits for the end of the batch.
func (u *uploader) ended(ctx context.Context) *batchState {
	for ctx.Err() == nil {
		resp, text, err := u.do(ctx, http.MethodGet, u.path, "", "", nil)
		s := new(batchState)
		switch {
		case err != nil || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		case resp.StatusCode != http.StatusOK || json.Unmarshal(text, s) != nil:
			u.odds("GET %s was answered %s %.300s", u.path, resp.Status, text)
		case s.ended():
			return s
		}
		u.rest(ctx, 100*time.Millisecond)
	}
	return nil
}

// results reads them until they come whole.
func (u *uploader) results(ctx context.Context) {
	for ctx.Err() == nil {
		resp, text, err := u.do(ctx, http.MethodGet, u.path+"/results", "", "", nil)
		if err != nil || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
			u.rest(ctx, 200*time.Millisecond)
			continue
		}
		if resp.StatusCode != http.StatusOK {
			u.odds("GET %s/results was answered %s %.300s", u.path, resp.Status, text)
			return
		}
		wrong, err := u.lines.results(strings.NewReader(string(text)), func(r resultLine) error {
			l := audit.BatchLine{Line: r.Line, ID: r.JobID, State: r.Status}
			if r.Error != nil {
				l.Error = r.Error.Code
			}
			u.batch.Results = append(u.batch.Results, l)
			return nil
		})
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		u.batch.Wrong = wrong
		return
	}
}

// feedingAt kills every replica while one of them feeds a batch, so that none
// takes over at once what the other one leaves.
func (d *director) feedingAt(ctx context.Context, a act) string {
	n := -1
	hit := d.watch.until(ctx, armedWithin, func() bool {
		if n < 0 {
			n = d.watch.fed
		}
		return d.watch.fed > n+a.who%8
	})
	for _, name := range d.arena.apis {
		d.arena.byName[name].signal(stopSignal)
	}
	said := ""
	for _, name := range d.arena.apis {
		said += d.kill(ctx, d.arena.byName[name], a.rest) + " "
	}
	return said + map[bool]string{false: "not in time", true: "within a batch"}[hit]
}

// checkingAt kills every replica right after a batch was taken.
func (d *director) checkingAt(ctx context.Context, a act) string {
	n := d.crowd.opened()
	hit := d.until(ctx, armedWithin, func() bool { return d.crowd.opened() > n })
	said := ""
	for _, name := range d.arena.apis {
		said += d.kill(ctx, d.arena.byName[name], a.rest) + " "
	}
	return said + map[bool]string{false: "not in time", true: "with a batch that was just taken"}[hit]
}

func (c *crowd) opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}
