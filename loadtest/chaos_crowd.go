package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tintype/tintype/loadtest/audit"
)

const (
	// crowdTries is how often a refused job is offered.
	crowdTries = 6
	// crowdThink is the longest that a client rests between two jobs.
	crowdThink = 600 * time.Millisecond
	// crowdPages is of how many pages those with a cache ask for.
	crowdPages = 12
)

// crowd is the clients of a chaos run. Each submits a job, tries again
// as an honest client does, and reads it to its end. What they do follows from
// the seed; when they do it does not.
type crowd struct {
	arena *arena
	seed  uint64
	run   string // begins every custom_id and key
	next  atomic.Uint64

	mu          sync.Mutex
	submissions []*audit.Submission
	looks       []audit.Look
	ends        int
	ids         []string             // accepted
	owner       map[string]string    // account of each
	until       map[string]time.Time // when an account that is throttled may come back
	spent       map[string]bool      // accounts whose quota is used up
	odd         []string             // answers that no client should get
	open        []string             // batches that were taken
	uploads     []audit.Batch        // that were seen to their ends, or given up
}

// member is one client.
type member struct {
	*crowd
	conns   map[string]*conn // by replica and account
	account string
}

// work submits jobs until intake ends, and sees those under way to their end.
func (c *crowd) work(intake, ctx context.Context) {
	m := &member{crowd: c, conns: map[string]*conn{}}
	defer func() {
		for _, c := range m.conns {
			c.close()
		}
	}()
	for intake.Err() == nil {
		n := c.next.Add(1)
		r := rand.New(rand.NewPCG(c.seed, n))
		m.job(ctx, n, r)
		select {
		case <-intake.Done():
		case <-time.After(rand.N(crowdThink)):
		}
	}
}

// job is one job's whole life.
func (m *member) job(ctx context.Context, n uint64, r *rand.Rand) {
	m.account = m.choose(r)
	page := "" // one of its own for each submission
	switch {
	case m.arena.rules.Plans[m.account].Cache > 0:
		page = fmt.Sprint("page/", r.IntN(crowdPages))
	case r.IntN(12) == 0:
		page = fmt.Sprint(failing, n)
	}
	key := ""
	if r.IntN(3) == 0 {
		key = fmt.Sprintf("%s-k%d", m.run, n)
	}
	told := r.IntN(6) == 0
	id := ""
	for try := 0; id == "" && try < crowdTries && ctx.Err() == nil; {
		name := fmt.Sprintf("%s-%d-%d", m.run, n, try)
		if key != "" {
			name = fmt.Sprintf("%s-%d-k", m.run, n)
		}
		s := m.submit(ctx, name, key, page, told, r.IntN(len(m.arena.hosts)))
		switch {
		case s.Status == 200 || s.Status == 202:
			id = s.ID
		case s.Status == 0 || s.Status == http.StatusServiceUnavailable:
			// Nobody knows, or nobody leads: with a key it is the same job
			// again, without one another.
			if key == "" || s.Code == "queue_full" {
				try++
			}
			m.rest(ctx, 100*time.Millisecond)
		case s.Status == http.StatusTooManyRequests:
			try++
			m.rest(ctx, 200*time.Millisecond)
		case s.Status == http.StatusPaymentRequired && s.Code == "quota_exceeded" && m.arena.rules.Plans[m.account].Quota > 0:
			return
		default:
			m.odds("%s was answered %d %s", name, s.Status, s.Code)
			return
		}
	}
	if id == "" {
		return
	}
	m.mu.Lock()
	m.ids = append(m.ids, id)
	m.owner[id] = m.account
	m.mu.Unlock()
	if key != "" && r.IntN(2) == 0 { // the answer might have been lost: once more, elsewhere
		m.submit(ctx, fmt.Sprintf("%s-%d-k", m.run, n), key, page, told, r.IntN(len(m.arena.hosts)))
	}
	if r.IntN(8) == 0 {
		m.rest(ctx, time.Duration(1+r.IntN(80))*time.Millisecond)
		m.look(ctx, http.MethodDelete, id, r.IntN(len(m.arena.hosts)))
	}
	for ctx.Err() == nil && !m.look(ctx, http.MethodGet, id, rand.IntN(len(m.arena.hosts))) {
	}
	if key != "" && r.IntN(3) == 0 {
		m.submit(ctx, fmt.Sprintf("%s-%d-k", m.run, n), key, page, told, r.IntN(len(m.arena.hosts)))
	}
	m.mu.Lock()
	m.ends++
	m.mu.Unlock()
}

// choose picks an account by its share. One whose quota is used up is asked for
// now and then.
func (c *crowd) choose(r *rand.Rand) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.arena.plans)) {
		for range c.arena.plans[name].share {
			all = append(all, c.arena.named[name])
		}
	}
	id, again := all[r.IntN(len(all))], r.IntN(8) == 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spent[id] && !again {
		return c.arena.named["wide"]
	}
	return id
}

// honour waits until the account may come back: its clients know of each
// other's refusals, as those of an honest customer do.
func (m *member) honour(ctx context.Context) {
	for ctx.Err() == nil {
		m.mu.Lock()
		wait := time.Until(m.until[m.account])
		m.mu.Unlock()
		if wait <= 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (m *member) rest(ctx context.Context, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(most/4 + rand.N(most)):
	}
}

func (c *crowd) odds(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.odd = append(c.odd, fmt.Sprintf(format, args...))
}

// to is the line to a replica, as this account.
func (m *member) to(replica int) *conn {
	at := m.arena.hosts[replica] + m.account
	if m.conns[at] == nil {
		m.conns[at] = &conn{host: m.arena.hosts[replica], key: m.arena.keys[m.account]}
	}
	return m.conns[at]
}

// submit is one POST, as the auditor will see it.
func (m *member) submit(ctx context.Context, name, key, page string, told bool, replica int) *audit.Submission {
	m.honour(ctx)
	s := &audit.Submission{Name: name, Account: m.account, Key: key, API: m.arena.apis[replica], Sent: time.Now()}
	m.mu.Lock()
	m.submissions = append(m.submissions, s)
	m.mu.Unlock()
	if page == "" {
		page = name
	}
	hook := ""
	if told && !m.arena.rules.Plans[m.account].PerCall { // see listen
		hook = fmt.Sprintf(`,"webhook_url":%q`, m.arena.hooks.url("own-"+m.arena.planOf(m.account), false))
	}
	body := fmt.Appendf(nil, `{"url":"https://example.com/%s","custom_id":"%s"%s}`, page, name, hook)
	c := m.to(replica)
	c.idempotency = key
	resp, text, err := c.do(ctx, 20*time.Second, http.MethodPost, "/v1/jobs", body)
	c.idempotency = ""
	var a answer
	if err == nil {
		a, err = read(resp, text)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		s.Failed = time.Now() // it may have been accepted
		return s
	}
	s.Answered, s.Status, s.Code, s.ID = time.Now(), resp.StatusCode, a.Code, a.ID
	switch s.Code {
	case "rate_limit_exceeded":
		if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			if until := s.Answered.Add(time.Duration(wait) * time.Second); until.After(m.until[m.account]) {
				m.until[m.account] = until
			}
		}
	case "quota_exceeded":
		m.spent[m.account] = true
	}
	if s.ID == "" {
		s.ID = a.JobID
	}
	return s
}

// read takes what matters out of an answer. A problem's status is a number, a
// job's is a word.
func read(resp *http.Response, text []byte) (a answer, err error) {
	var into any = &a
	if resp.StatusCode >= 400 {
		into = &a.problem
	}
	err = json.Unmarshal(text, into)
	return a, err
}

// look asks for a job, or cancels it, and reports whether it has ended.
func (m *member) look(ctx context.Context, method, id string, replica int) (ended bool) {
	path := "/v1/jobs/" + id
	if method == http.MethodGet {
		path += "?wait=3"
	}
	resp, text, err := m.to(replica).do(ctx, 15*time.Second, method, path, nil)
	var a answer
	if err == nil {
		a, err = read(resp, text)
	}
	if err != nil {
		m.rest(ctx, 50*time.Millisecond)
		return false
	}
	l := audit.Look{ID: id, Status: resp.StatusCode}
	switch resp.StatusCode {
	case http.StatusOK:
		l.State, l.Attempts, l.Canceled = a.Status, int32(a.Attempts), method == http.MethodDelete
		ended = a.Status != "queued" && a.Status != "running"
	case http.StatusServiceUnavailable:
		m.rest(ctx, 100*time.Millisecond)
	case http.StatusConflict:
		if method != http.MethodDelete {
			m.odds("%s %s was answered %d %s", method, path, resp.StatusCode, a.Code)
		}
	case http.StatusNotFound, http.StatusGone:
		ended = true // the auditor will say so
	case http.StatusPaymentRequired: // of a plan that charges for calls: it is not told any more
		if ended = m.arena.rules.Plans[m.account].PerCall; !ended {
			m.odds("%s %s was answered %d %s", method, path, resp.StatusCode, a.Code)
		}
	default:
		m.odds("%s %s was answered %d %s", method, path, resp.StatusCode, a.Code)
		m.rest(ctx, 100*time.Millisecond)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks = append(m.looks, l)
	return ended
}

// flying counts the submissions without a key that are on their way through a
// replica, or any, if that is empty, and that a condition takes.
func (c *crowd) flying(api string, condition func(*audit.Submission) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.submissions[max(0, len(c.submissions)-300):] {
		if s.Answered.IsZero() && s.Failed.IsZero() && s.Key == "" && (api == "" || s.API == api) && condition(s) {
			n++
		}
	}
	return n
}

func (c *crowd) accepted() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.ids))
}

func (c *crowd) ended() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends
}

func newCrowd(a *arena, seed uint64, run string) *crowd {
	return &crowd{arena: a, seed: seed, run: fmt.Sprintf("%s%d", run, seed), owner: map[string]string{}, until: map[string]time.Time{}, spent: map[string]bool{}}
}

// reread reads some of the jobs once more, each until it is answered.
func (c *crowd) reread(ctx context.Context, most int) {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	m := &member{crowd: c, conns: map[string]*conn{}}
	ids := slices.Clone(c.ids)
	rand.New(rand.NewPCG(c.seed, 1<<63)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for i, id := range ids[:min(most, len(ids))] {
		m.account = c.owner[id]
		for ctx.Err() == nil && !m.look(ctx, http.MethodGet, id, i%len(c.arena.hosts)) {
		}
	}
	for _, c := range m.conns {
		c.close()
	}
}
