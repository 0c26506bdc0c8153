package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// Time is a moment as the API writes it: RFC 3339 in UTC, always with
// milliseconds.
type Time struct{ time.Time }

// MarshalJSON writes t.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.text() + `"`), nil }

func (t Time) text() string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// orNull gives nil for the zero value: what is not there is null.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func timeOrNull(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// present is a job as the API shows it. base goes before its links: the
// public address of the server, or nothing.
func present(j *job.Job, base string) (*Job, error) {
	v := presentBare(j, base)
	if err := json.Unmarshal(j.Options, &v.Options); err != nil {
		return nil, fmt.Errorf("options of %s: %w", j.ID, err)
	}
	return v, nil
}

// selfLink is where a job is.
func selfLink(j *job.Job, base string) string { return base + "/v1/jobs/" + string(j.ID) }

// shown is a job with its options as they are stored. They are the contract's
// own JSON: to read them only to write them again is half the cost of present.
type shown struct {
	*Job
	Options json.RawMessage `json:"options"`
}

// show is present for an answer with one job, the one that clients ask for
// most.
func show(j *job.Job, base string) (any, error) {
	if len(j.Options) <= len("{}") { // of a row that the database took only without: the contract wants every field
		return present(j, base)
	}
	return shown{presentBare(j, base), j.Options}, nil
}

// presentBare is present without the options.
func presentBare(j *job.Job, base string) *Job {
	self := selfLink(j, base)
	v := &Job{
		Id: string(j.ID), Status: Status(j.State), Tier: j.Tier, Attempts: j.Attempts, Cached: j.Cached, Billable: j.Billable,
		CreatedAt: Time{j.CreatedAt}, StartedAt: timeOrNull(j.StartedAt), FinishedAt: timeOrNull(j.FinishedAt), ExpiresAt: timeOrNull(j.ExpiresAt),
		CustomId: orNull(j.CustomID), BatchId: orNull(j.Batch), Metadata: j.Metadata,
		Error: presentFailure(j.Failure), Evidence: presentEvidence(j.Evidence),
		Links: Links{Self: self, Result: self + "/result", Events: self + "/events"},
	}
	if j.State == job.Queued {
		v.WaitingFor, v.Position, v.EstimatedStartAt = orNull(string(j.WaitingFor)), orNull(j.Position), timeOrNull(j.StartsAt)
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if r := j.Result; r != nil {
		v.Result = presentResult(r, v.Links.Result)
	}
	if t := j.Timings; t != nil {
		v.Timings = &Timings{
			QueueMs: t.QueueMS, NavigateMs: t.NavigateMS, WaitMs: t.WaitMS,
			CaptureMs: t.CaptureMS, UploadMs: t.UploadMS, TotalMs: t.TotalMS,
		}
	}
	return v
}

func presentResult(r *job.Result, url string) *Result {
	return &Result{
		Url: url, ContentType: r.ContentType, SizeBytes: r.SizeBytes, Sha256: r.SHA256,
		Width: orNull(r.Width), Height: orNull(r.Height), Pages: orNull(r.Pages),
	}
}

func presentFailure(f *job.Failure) *Failure {
	if f == nil {
		return nil
	}
	return &Failure{Code: string(f.Code), Detail: f.Detail, Stage: string(f.Stage), Retryable: f.Retryable}
}

func presentEvidence(e *job.Evidence) *Evidence {
	if e == nil {
		return nil
	}
	return &Evidence{
		FinalUrl: orNull(e.FinalURL), StatusCode: orNull(e.StatusCode), Title: e.Title,
		Redirects: list(e.Redirects), ConsoleErrors: list(e.ConsoleErrors), TimedOut: list(e.TimedOut),
		FailedResources: resources(e.FailedResources), BlockedRequests: resources(e.BlockedRequests),
		UnloadedImages: e.UnloadedImages, MissingGlyphs: e.MissingGlyphs, Timings: presentMilestones(e.Timings), Page: presentPage(e.Page),
	}
}

func presentMilestones(m *job.Milestones) *Milestones {
	if m == nil {
		return nil
	}
	return &Milestones{
		CommittedMs: orNull(m.CommittedMS), ParsedMs: orNull(m.ParsedMS), PaintedMs: orNull(m.PaintedMS),
		LoadedMs: orNull(m.LoadedMS), ReadyMs: orNull(m.ReadyMS), CapturedMs: orNull(m.CapturedMS),
	}
}

func presentPage(p *job.Page) *PageInfo {
	if p == nil {
		return nil
	}
	return &PageInfo{
		Title: p.Title, Description: p.Description, Author: p.Author, Language: p.Language,
		Canonical: p.Canonical, Icon: p.Icon, Og: p.OpenGraph, Twitter: p.Twitter,
	}
}

// list makes an empty list of a missing one: it is [] in JSON, never null.
func list(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}

func resources(in []job.Resource) []Resource {
	out := make([]Resource, len(in))
	for i, r := range in {
		out[i] = Resource{Url: r.URL, Reason: r.Reason}
	}
	return out
}

func presentAccount(a account.Account) Account {
	return Account{Id: a.ID, Name: a.Name, Plan: a.Plan, Suspended: a.Suspended, BillingDay: a.BillingDay, CreatedAt: Time{a.CreatedAt}}
}

func presentPlan(p account.Plan) Plan {
	over := OverThreads{Action: OverThreadsAction(p.OverThreads.Action)}
	if p.OverThreads.Action == account.Refuse {
		over.Status, over.RetryAfter = &p.OverThreads.Status, &p.OverThreads.RetryAfter
	} else {
		over.Backlog = orWord(p.OverThreads.Backlog, account.Unlimited, "unlimited")
	}
	out := Plan{
		Name: p.Name, Tier: p.Tier, Threads: orWord(p.Threads, 0, "seats"), OverThreads: over,
		SlotsBy: string(cmp.Or(p.SlotsBy, account.ByAccount)), Dialect: string(cmp.Or(p.Dialect, account.DialectTintype)),
		CacheTtlS: int(p.CacheTTL / time.Second), StaleWhileRevalidateS: int(p.Stale / time.Second),
		RetentionDays: int(p.Retention / (24 * time.Hour)), WallMs: int(p.Wall.Milliseconds()), UpgradeUrl: orNull(p.UpgradeURL),
	}
	formats := p.Formats
	if len(formats) == 0 {
		formats = job.Formats
	}
	for _, f := range formats {
		out.Formats = append(out.Formats, string(f))
	}
	if r := p.Rate; r.Limited() {
		out.Rate = &Rate{
			Algorithm: string(r.Algorithm), Requests: r.Requests, WindowS: int(r.Window / time.Second), Burst: orNull(r.Burst),
			By: string(r.By), Charge: string(r.Charge),
		}
	}
	if q := p.Quota; q.Limited() {
		out.Quota = &Quota{Unit: string(q.Unit), Limit: q.Limit, Period: string(q.Period), Status: q.Status}
		if o := q.Overage; o.Allowed {
			out.Quota.Overage = &Surcharge{Above: o.Above, PricePerUnit: account.Decimal(account.Nano(o.PriceNano))}
		}
	}
	return out
}

// orWord writes a number as the policy file does: one of its values is a word.
func orWord(n, special int, word string) any {
	if n == special {
		return word
	}
	return n
}

func presentKey(k account.Key) Key {
	return Key{
		Id: k.ID, Name: k.Name, Scopes: texts(k.Scopes), SignsLinks: k.SigningSecret != "", CreatedAt: Time{k.CreatedAt},
		ExpiresAt: timeOrNull(k.ExpiresAt), RevokedAt: timeOrNull(k.RevokedAt),
	}
}

// texts are the scopes of a key as it was made; none of it is an empty list.
func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// marshal writes JSON for people too: < and > stay as they are, since no
// answer is ever taken for HTML (nosniff).
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// writeJSON answers with a model of the contract.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client that went away is noticed by the server
	return nil
}
