// Package client is the Go client of Tintype's HTTP API.
//
// It promises that a refusal is a *Problem with the server's code and words,
// that a server which cannot be reached is ErrUnreachable, and that every call
// has a deadline of its own beside the caller's: for all of it, or, of what takes
// long to read, for how long nothing comes. What a job's fields mean is in
// api/openapi.yaml, from which client.gen.go is made; this file adds waiting
// and errors.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callWithin bounds a call that the server answers at once, or after the
	// ten seconds that a decision may take.
	callWithin = 30 * time.Second
	// keptConnections are not closed between calls: as many as a caller uses at
	// a time.
	keptConnections = 16
	// maxAnswer bounds what is read of an answer that is no artifact.
	maxAnswer = 64 << 20
)

// ErrUnreachable is in the chain of errors of a server that did not answer.
var ErrUnreachable = errors.New("the server is not reachable")

// Problem is the server's refusal (RFC 9457).
type Problem struct {
	Status     int            `json:"status"`
	Code       string         `json:"code"` // stable; "" when the answer was no problem document
	Title      string         `json:"title"`
	Detail     string         `json:"detail"`
	Errors     []ProblemField `json:"errors"`
	JobID      string         `json:"job_id"` // of a job that may have been accepted, or that failed
	RequestID  string         `json:"request_id"`
	RetryAfter time.Duration  `json:"-"` // 0: the server named none
}

// Error is what to show to a person.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		fmt.Fprintf(&b, "the server answered %d %s", p.Status, http.StatusText(p.Status))
	}
	if len(p.Errors) > 1 {
		for _, f := range p.Errors {
			fmt.Fprintf(&b, "\n  %s: %s", strings.TrimPrefix(f.Pointer, "/"), f.Detail)
		}
	}
	if p.Code != "" {
		fmt.Fprintf(&b, " (%s)", p.Code)
	}
	return b.String()
}

// Client calls one server with one key. Its methods are safe for concurrent
// use.
type Client struct {
	raw  *Raw
	http *http.Client
}

// New makes a client for a server, such as http://127.0.0.1:8080; without a
// scheme it is http. key is an account's key, or the admin token for the calls
// about accounts. It calls nobody.
func New(server, key string) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server %q: want a URL such as http://127.0.0.1:8080", u.Redacted())
	}
	if strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, errors.New("key: holds characters that no key has; is it the right file?")
	}
	// Its own transport: Close ends this client's connections and no others.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = keptConnections
	doer := &http.Client{Transport: transport}
	raw, err := NewClient(u.String(), WithHTTPClient(doer), WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Client{raw: raw, http: doer}, nil
}

// Close ends the connections that are idle. Use it when no call is in work.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Submit submits a job and returns it as it was accepted.
func (c *Client) Submit(ctx context.Context, req JobRequest) (*Job, error) {
	return call[Job](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.SubmitJob(ctx, nil, req)
	})
}

// Get looks a job up; with a wait (whole seconds, at most 60) the answer comes
// when the job has ended or the wait is over.
func (c *Client) Get(ctx context.Context, id string, wait time.Duration) (*Job, error) {
	var params GetJobParams
	if wait > 0 {
		text := strconv.Itoa(int(wait / time.Second))
		params.Wait = &text
	}
	return call[Job](ctx, wait+callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.GetJob(ctx, id, &params)
	})
}

// Cancel cancels a job that has not ended.
func (c *Client) Cancel(ctx context.Context, id string) (*Job, error) {
	return call[Job](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.CancelJob(ctx, id) })
}

// Result opens the artifact of a job that succeeded. The caller closes it;
// its reading ends with ctx, or when nothing comes for a minute.
func (c *Client) Result(ctx context.Context, id string) (io.ReadCloser, error) {
	return open(ctx, func(ctx context.Context) (*http.Response, error) { return c.raw.GetResult(ctx, id) })
}

// Usage is what the key's account used in a period, such as 2026-11; empty is
// the present one.
func (c *Client) Usage(ctx context.Context, period string) (*Usage, error) {
	var params GetUsageParams
	if period != "" {
		params.Period = &period
	}
	return call[Usage](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.GetUsage(ctx, &params) })
}

// UsageTable opens the days of a period as CSV; UsageEvents opens its ledger
// of charges, as csv or jsonl. The caller closes them; their reading ends
// with ctx, or when nothing comes for a minute.
func (c *Client) UsageTable(ctx context.Context, period string) (io.ReadCloser, error) {
	format := GetUsageParamsFormat("csv")
	params := GetUsageParams{Format: &format}
	if period != "" {
		params.Period = &period
	}
	return open(ctx, func(ctx context.Context) (*http.Response, error) { return c.raw.GetUsage(ctx, &params) })
}

// UsageEvents is described at UsageTable.
func (c *Client) UsageEvents(ctx context.Context, period, format string) (io.ReadCloser, error) {
	as := ListUsageEventsParamsFormat(format)
	params := ListUsageEventsParams{Format: &as}
	if period != "" {
		params.Period = &period
	}
	return open(ctx, func(ctx context.Context) (*http.Response, error) { return c.raw.ListUsageEvents(ctx, &params) })
}

// Whoami is the key's account, with what is left of every limit.
func (c *Client) Whoami(ctx context.Context) (*Self, error) {
	return call[Self](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.GetAccount(ctx) })
}

// CreateAccount makes an account with its first key; an empty plan is the
// installation's default. It needs the admin token, like all below.
func (c *Client) CreateAccount(ctx context.Context, name, plan string) (*NewAccount, error) {
	req := AccountRequest{Name: name}
	if plan != "" {
		req.Plan = &plan
	}
	return call[NewAccount](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.CreateAccount(ctx, req) })
}

// UpdateAccount changes an account; what is nil stays as it is.
func (c *Client) UpdateAccount(ctx context.Context, id string, to AccountUpdate) (*Account, error) {
	return call[Account](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.UpdateAccount(ctx, id, to) })
}

// Policy is the policy in force, as a policy file.
func (c *Client) Policy(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callWithin, fmt.Errorf("%w: no answer within %s", ErrUnreachable, callWithin))
	defer cancel()
	resp, err := c.raw.ReadPolicy(ctx)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, problem(resp)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// ListAccounts lists every account, oldest first.
func (c *Client) ListAccounts(ctx context.Context) ([]AccountOverview, error) {
	limit := mostOnPage
	return gathered(func(after *string) ([]AccountOverview, *string, error) {
		page, err := call[AccountList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
			return c.raw.ListAccounts(ctx, &ListAccountsParams{Limit: &limit, After: after})
		})
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// Account looks an account up by its id.
func (c *Client) Account(ctx context.Context, id string) (*AccountOverview, error) {
	return call[AccountOverview](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ReadAccount(ctx, id) })
}

// CreateKey makes a further key of an account. The request may be empty.
func (c *Client) CreateKey(ctx context.Context, accountID string, req KeyRequest) (*NewKey, error) {
	return call[NewKey](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.CreateKey(ctx, accountID, req) })
}

// ListKeys lists an account's keys, revoked ones too.
func (c *Client) ListKeys(ctx context.Context, accountID string) ([]Key, error) {
	list, err := call[KeyList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ListKeys(ctx, accountID) })
	if err != nil {
		return nil, err
	}
	return list.Data, nil
}

// RevokeKey ends a key for good.
func (c *Client) RevokeKey(ctx context.Context, accountID, keyID string) error {
	_, err := call[struct{}](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.RevokeKey(ctx, accountID, keyID)
	})
	return err
}

// open sends a request and leaves its answer to be read, as long as something of it
// comes.
func open(ctx context.Context, send func(context.Context) (*http.Response, error)) (io.ReadCloser, error) {
	return await(ctx, func(ctx context.Context) (*http.Response, error) { return heed(ctx, send) })
}

// await is open for an answer that may have long pauses.
func await(ctx context.Context, send func(context.Context) (*http.Response, error)) (io.ReadCloser, error) {
	resp, err := send(ctx)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp.Body, nil
}

// request is one that the generated half has no words for.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Request, error) {
	target := strings.TrimSuffix(c.raw.Server, "/") + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return req, c.raw.applyEditors(ctx, req, nil)
}

// ListBans lists who is kept out, the newest first.
func (c *Client) ListBans(ctx context.Context) ([]Ban, error) {
	limit := mostOnPage
	return gathered(func(after *string) ([]Ban, *string, error) {
		page, err := call[BanList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
			return c.raw.ListBans(ctx, &ListBansParams{Limit: &limit, After: after})
		})
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// Ban keeps a subject out, such as address:203.0.113.7, until a moment; for good,
// if that is zero.
func (c *Client) Ban(ctx context.Context, subject string, until time.Time, reason string) (*Ban, error) {
	req := BanRequest{Subject: subject, Reason: reason}
	if !until.IsZero() {
		req.Until = &until
	}
	return call[Ban](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.CreateBan(ctx, req) })
}

// LiftBan lets a subject in again.
func (c *Client) LiftBan(ctx context.Context, subject string) error {
	_, err := call[struct{}](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.LiftBan(ctx, &LiftBanParams{Subject: &subject})
	})
	return err
}

// call sends a request and reads its answer whole.
func call[T any](ctx context.Context, within time.Duration, send func(context.Context) (*http.Response, error)) (*T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%w: no answer within %s", ErrUnreachable, within))
	defer cancel()
	resp, err := send(ctx)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return nil, problem(resp)
	}
	v := new(T)
	if resp.StatusCode == http.StatusNoContent {
		return v, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(ctx, err) // it broke off
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("the server's answer is not Tintype's: %w", err)
	}
	return v, nil
}

// unreachable tells a server that is not there from a caller that stopped.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errQuiet) {
		return errQuiet
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the URL would repeat what the caller said
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// problem reads a refusal.
func problem(resp *http.Response) *Problem {
	p := new(Problem)
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(body, p) != nil {
		p = new(Problem) // a proxy's own page, perhaps: the status says enough
	}
	p.Status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.RetryAfter = time.Duration(s) * time.Second
	}
	return p
}
