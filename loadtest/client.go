package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// answerWithin bounds one answer; long polls ask for less.
	answerWithin = 60 * time.Second
	// endWithin is how long an accepted job may take to its end before it
	// counts as lost.
	endWithin = 90 * time.Second
	// refusedRest is the longest a refused client rests, whatever Retry-After
	// says: the load is to go on.
	refusedRest = time.Second
)

// load is what all clients of a run share.
type load struct {
	host, key string
	run       string // begins every custom_id of this run
	digest    string // of every result; empty: any
	most      int64  // jobs in all
	next      atomic.Int64
	stop      time.Time // no job is submitted later
	from      time.Time // of the measured window
	to        time.Time
	arrivals  chan time.Time // open loop: when each job was due; nil: closed loop

	think     time.Duration                      // of a client between two jobs
	impatient time.Duration                      // rest of a refused client; 0: as it is told
	once      bool                               // a job that took more than one attempt is wrong
	saw       func(what string, began time.Time) // "accepted": since the request, "finished": since the job; nil: nobody looks
}

// seen is what one client saw. Counts and durations are of the measured
// window; ids and everything that is wrong are of the whole run.
type seen struct {
	submitted, finished int
	after               int // finished since the window began, its tail included
	submits, wholes     []time.Duration
	ids                 map[string]string // custom_id → id, of jobs whose end was read
	refused             map[string]int    // code → answers
	lost, wrong         []string
	broken              int      // requests without an answer
	breaks              []string // why, of the first few
}

// answer is what matters of a job's representation, or of a problem.
type answer struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	CustomID string `json:"custom_id"`
	Billable *bool  `json:"billable"`
	Attempts int    `json:"attempts"`
	Result   *struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size_bytes"`
	} `json:"result"`
	problem
}

// problem is what matters of a problem document.
type problem struct {
	Code  string `json:"code"`
	JobID string `json:"job_id"`
}

// client submits one job after the other and reads the end of each.
type client struct {
	*load
	*conn
	seen
}

func (l *load) client() *client {
	return &client{load: l, conn: &conn{host: l.host, key: l.key}, seen: seen{ids: map[string]string{}, refused: map[string]int{}}}
}

// loop goes on until the time or the number of jobs is up.
func (c *client) loop(ctx context.Context) {
	defer c.close()
	for ctx.Err() == nil {
		due := time.Now()
		if c.arrivals != nil {
			var open bool
			if due, open = <-c.arrivals; !open {
				return
			}
		}
		n := c.next.Add(1)
		if due.After(c.stop) || n > c.most {
			return
		}
		c.job(ctx, c.run+"-"+strconv.FormatInt(n, 10), due)
		if c.think > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(c.think):
			}
		}
	}
}

// job takes one job from its submission to its end.
func (c *client) job(ctx context.Context, name string, due time.Time) {
	body := fmt.Appendf(nil, `{"url":"https://example.com/%s","custom_id":"%s"}`, name, name)
	id, doubt := "", false
	for try := due; id == ""; try = time.Now() {
		resp, a, err := c.ask(ctx, http.MethodPost, "/v1/jobs", body)
		switch {
		case err != nil:
			// It may have been accepted all the same; the archive will tell.
			c.broke(err)
			return
		case resp.StatusCode == http.StatusAccepted:
			id = a.ID
			if id == "" || a.CustomID != name {
				c.wrong = append(c.wrong, fmt.Sprintf("%s was accepted as %+v", name, a))
				return
			}
			if c.saw != nil {
				c.saw("accepted", try)
			}
			now := time.Now()
			if c.within(now) {
				c.submitted++
				c.submits = append(c.submits, now.Sub(try))
			}
		case a.JobID != "": // undecided in time: to be looked up
			c.refused[a.Code]++
			id, doubt = a.JobID, true
		case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
			c.refused[a.Code]++
			if c.arrivals != nil || time.Now().After(c.stop) || !c.rest(ctx, resp) {
				return // an open loop offers each job once
			}
		default:
			c.wrong = append(c.wrong, fmt.Sprintf("%s was answered %s %+v", name, resp.Status, a))
			return
		}
	}
	c.end(ctx, id, name, due, doubt)
}

// end reads the job until it has ended, and checks what it ended as. One in
// doubt, which was not accepted within the API's patience, may not be there.
func (c *client) end(ctx context.Context, id, name string, due time.Time, doubt bool) {
	patience := time.Now().Add(endWithin)
	for time.Now().Before(patience) {
		resp, a, err := c.ask(ctx, http.MethodGet, "/v1/jobs/"+id+"?wait=30", nil)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.broke(err)
			continue
		case resp.StatusCode == http.StatusServiceUnavailable:
			c.refused[a.Code]++
			if !c.rest(ctx, resp) {
				return
			}
			continue
		case doubt && resp.StatusCode == http.StatusNotFound:
			return
		case resp.StatusCode != http.StatusOK:
			c.lost = append(c.lost, fmt.Sprintf("%s: %s %s", id, resp.Status, a.Code))
			return
		case a.Status == "queued" || a.Status == "running":
			continue
		}
		now := time.Now()
		if what := c.judge(id, name, a); what != "" {
			c.wrong = append(c.wrong, id+": "+what)
		}
		c.ids[name] = id
		if c.saw != nil {
			c.saw("finished", due)
		}
		if now.After(c.from) {
			c.after++
		}
		if c.within(now) {
			c.finished++
			c.wholes = append(c.wholes, now.Sub(due))
		}
		return
	}
	c.lost = append(c.lost, fmt.Sprintf("%s: no end within %s", id, endWithin))
}

// judge says what is wrong with a job's end; "" when it is right.
func (c *client) judge(id, name string, a *answer) string {
	switch {
	case a.ID != id || a.CustomID != name:
		return fmt.Sprintf("is answered as %s %s", a.ID, a.CustomID)
	case a.Status != "succeeded":
		return "ended as " + a.Status
	case a.Billable == nil || !*a.Billable:
		return "is not billable"
	case c.once && a.Attempts != 1:
		return fmt.Sprintf("took %d attempts", a.Attempts)
	case a.Result == nil || a.Result.Size == 0:
		return "has no result"
	case c.digest != "" && a.Result.SHA256 != c.digest:
		return "is another picture: " + a.Result.SHA256
	}
	if sum, err := hex.DecodeString(a.Result.SHA256); err != nil || len(sum) != 32 {
		return "has no digest"
	}
	return ""
}

func (c *client) broke(err error) {
	if c.broken++; len(c.breaks) < 3 {
		c.breaks = append(c.breaks, err.Error())
	}
}

func (c *client) ask(ctx context.Context, method, path string, body []byte) (*http.Response, *answer, error) {
	resp, text, err := c.do(ctx, answerWithin, method, path, body)
	if err != nil {
		return nil, nil, err
	}
	a := new(answer)
	var into any = a
	if resp.StatusCode >= 400 { // a problem, whose status is a number
		into = &a.problem
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, nil, fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
	}
	return resp, a, nil
}

func (l *load) within(t time.Time) bool { return !t.Before(l.from) && t.Before(l.to) }

// rest waits as the answer asks, within reason. It is false when ctx ended.
func (l *load) rest(ctx context.Context, resp *http.Response) bool {
	wait := refusedRest
	if l.impatient > 0 {
		wait = l.impatient
	} else if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		wait = min(wait, time.Duration(s)*time.Second)
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
