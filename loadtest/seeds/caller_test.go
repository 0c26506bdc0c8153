package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// caller is somebody who talks to a farm: with a key or without, from an
// address.
type caller struct {
	t    *testing.T
	w    *world
	from string
	key  string // empty: none is shown
	id   string // of the account; empty: none
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body []byte
	json map[string]any // nil: it is none
}

var names atomic.Int64

const pngHead = "\x89PNG\r\n\x1a\n"

// anonymous is a stranger without a key.
func (w *world) anonymous(t *testing.T) *caller {
	return &caller{t: t, w: w, from: w.address()}
}

// on is a new account on a plan, which comes from an address of its own.
func (w *world) on(t *testing.T, plan string) *caller {
	t.Helper()
	c := w.anonymous(t)
	made := w.admin(t).must(http.StatusCreated, "POST", "/admin/v1/accounts", fmt.Sprintf(`{"name": "account %d", "plan": %q}`, names.Add(1), plan))
	c.key, c.id = made.text("key"), made.text("id")
	return c
}

// admin is who runs the farm.
func (w *world) admin(t *testing.T) *caller {
	return &caller{t: t, w: w, from: "127.0.0.1", key: admin}
}

// with is the same caller with another key.
func (c *caller) with(key string) *caller {
	d := *c
	d.key = key
	return &d
}

// at is the same caller from another address.
func (c *caller) at(address string) *caller {
	d := *c
	d.from = address
	return &d
}

// in is the same caller in another test, of a goroutine's own perhaps.
func (c *caller) in(t *testing.T) *caller {
	d := *c
	d.t = t
	return &d
}

// another is a second key of the same account.
func (c *caller) another() *caller {
	c.t.Helper()
	return c.with(c.w.admin(c.t).must(http.StatusCreated, "POST", "/admin/v1/accounts/"+c.id+"/keys", `{}`).text("key"))
}

// do sends a request; headers are pairs of name and value.
func (c *caller) do(method, path, body string, headers ...string) *reply {
	c.t.Helper()
	r, err := c.try(context.Background(), method, path, body, headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// try is do for goroutines.
func (c *caller) try(ctx context.Context, method, path, body string, headers ...string) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.w.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.w.way(c.from).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &reply{Response: resp}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if err := fields(resp.Header); err != nil {
		return nil, fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
	}
	if method != http.MethodHead && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(r.body, &r.json); err != nil {
			return nil, fmt.Errorf("%s %s: %s, and the body is no JSON: %s", method, path, resp.Status, r.body)
		}
	}
	return r, nil
}

// must is do for a request whose status is known beforehand.
func (c *caller) must(status int, method, path, body string, headers ...string) *reply {
	c.t.Helper()
	r := c.do(method, path, body, headers...)
	if r.StatusCode != status {
		c.t.Fatalf("%s %s %s: %s, want %d", method, path, body, r, status)
	}
	return r
}

// page is a URL that the stage plays as the query says; no two are the same.
func page(host, query string) string {
	return fmt.Sprintf("http://%s.test/%d?%s", host, names.Add(1), query)
}

// ofPage is the body of a submission of such a page.
func ofPage(host, query string) string { return fmt.Sprintf(`{"url": %q}`, page(host, query)) }

// submit sends one and wants it accepted.
func (c *caller) submit(host, query string) *reply {
	c.t.Helper()
	return c.must(http.StatusAccepted, "POST", "/v1/jobs", ofPage(host, query))
}

// shot is a render in one call.
func (c *caller) shot(body string, headers ...string) *reply {
	c.t.Helper()
	return c.do("POST", "/v1/screenshot", body, headers...)
}

// ended waits for the end of a job.
func (c *caller) ended(id string) *reply {
	c.t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		r := c.must(http.StatusOK, "GET", "/v1/jobs/"+id+"?wait=60", "")
		switch r.text("status") {
		case "queued", "running":
		default:
			return r
		}
	}
	c.t.Fatalf("%s does not end", id)
	return nil
}

// cancel ends a job and wants that to work.
func (c *caller) cancel(id string) {
	c.t.Helper()
	if r := c.must(http.StatusOK, "DELETE", "/v1/jobs/"+id, ""); r.text("status") != "canceled" {
		c.t.Fatalf("cancel: %s", r)
	}
}

func (r *reply) String() string {
	return fmt.Sprintf("%s %v %.300s", r.Status, r.Header, r.body)
}

// at is a member of the answer's JSON, by its path; nil if it is not there.
func (r *reply) at(path ...string) any {
	var v any = r.json
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (r *reply) text(path ...string) string {
	s, _ := r.at(path...).(string)
	return s
}

// number is a header that is a whole number; -1 where it is none.
func (r *reply) number(header string) int64 {
	n, err := strconv.ParseInt(r.Header.Get(header), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// want compares an answer with its status and its code.
func (r *reply) want(t *testing.T, what string, status int, code string) {
	t.Helper()
	got := r.text("code")
	if inner := r.text("error", "code"); got == "" {
		got = inner
	}
	if r.StatusCode != status || got != code {
		t.Errorf("%s: %s, want %d %s", what, r, status, code)
	}
}
