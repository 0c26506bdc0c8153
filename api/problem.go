package api

import (
	"bytes"
	"cmp"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// face is how a kind of fault looks over HTTP.
type face struct {
	status int
	code   string // where the fault names none
	title  string
	mute   bool // no Retry-After, although the fault knows one

	dialect    dialect // nil: a problem document
	upgradeURL string  // told with a refusal for the quota; empty: none
}

// faceOf is the one map from kinds to HTTP for Tintype's own API.
func faceOf(kind fault.Kind) face {
	switch kind {
	case fault.Invalid:
		return face{status: http.StatusBadRequest, code: "invalid_input", title: "The request is not valid"}
	case fault.Unauthenticated:
		return face{status: http.StatusUnauthorized, code: "invalid_key", title: "A valid key is needed"}
	case fault.Forbidden:
		return face{status: http.StatusForbidden, code: "forbidden", title: "This is not allowed"}
	case fault.Blocked:
		return face{status: http.StatusForbidden, code: "blocked", title: "Blocked for a while"}
	case fault.NotFound:
		return face{status: http.StatusNotFound, code: "not_found", title: "There is no such thing"}
	case fault.Conflict:
		return face{status: http.StatusConflict, code: "conflict", title: "The present state does not allow this"}
	case fault.Gone:
		return face{status: http.StatusGone, code: "gone", title: "It is gone"}
	case fault.TooLarge:
		return face{status: http.StatusRequestEntityTooLarge, code: "too_large", title: "The request is too large"}
	case fault.KeyReused:
		return face{status: http.StatusUnprocessableEntity, code: "idempotency_key_reused", title: "The key belongs to another request"}
	case fault.RenderFailed:
		return face{status: http.StatusUnprocessableEntity, code: "render_failed", title: "The render failed"}
	case fault.RateLimited:
		return face{status: http.StatusTooManyRequests, code: "rate_limit_exceeded", title: "Too many requests"}
	case fault.ThreadsFull:
		return face{status: http.StatusTooManyRequests, code: concurrencyLimit, title: "Too many jobs at once"}
	case fault.QuotaExceeded:
		return face{status: http.StatusPaymentRequired, code: "quota_exceeded", title: "The quota is used up"}
	case fault.QueueFull:
		return face{status: http.StatusServiceUnavailable, code: "queue_full", title: "The queue is full"}
	case fault.Unavailable:
		return face{status: http.StatusServiceUnavailable, code: "unavailable", title: "Not available for the moment"}
	case fault.Timeout:
		return face{status: http.StatusGatewayTimeout, code: "timeout", title: "It took too long"}
	case fault.Canceled:
		return face{status: statusClientGone, code: "canceled", title: "The client went away"}
	case fault.Internal:
		return face{status: http.StatusInternalServerError, code: "internal", title: "An error of the server"}
	}
	return face{status: http.StatusInternalServerError, code: "internal", title: "An error of the server"}
}

// concurrencyLimit is the code of a refusal because all threads of an account
// are in use. Plans may say how that looks.
const concurrencyLimit = "concurrency_limit_exceeded"

// faceFor is faceOf, bent to what the plan of whoever asked says.
func faceFor(f *fault.Error, plan account.Plan) face {
	look := faceOf(f.Kind)
	switch {
	case f.Kind == fault.ThreadsFull && f.Code == concurrencyLimit && plan.OverThreads.Action == account.Refuse:
		look.mute = !plan.OverThreads.RetryAfter
		look.status = cmp.Or(plan.OverThreads.Status, look.status)
	case f.Kind == fault.QuotaExceeded:
		look.status, look.upgradeURL = cmp.Or(plan.Quota.Status, look.status), plan.UpgradeURL
	}
	if d := dialects[plan.Dialect]; d != nil {
		look = d.face(f, look)
		look.dialect = d
	}
	return look
}

// statusClientGone is nginx's: nobody reads the answer, but logs and metrics
// must not count it as the server's error.
const statusClientGone = 499

// failed is the fault that a call which waits for its render answers with
// when the job failed. Codes of jobs are more than one kind: an address that
// may not be reached is forbidden, a deadline is a time-out.
func failed(j *job.Job) *fault.Error {
	e := &fault.Error{Kind: fault.RenderFailed, Code: string(j.State), Extra: map[string]any{"job_id": j.ID}}
	f := j.Failure
	if f == nil {
		e.Detail = "the job ended as " + string(j.State)
		return e
	}
	e.Code, e.Detail = string(f.Code), f.Detail
	e.Extra["error"] = presentFailure(f)
	switch {
	case f.Code == job.AddressRefused:
		e.Kind = fault.Forbidden
	case f.Code.Timeout():
		e.Kind = fault.Timeout
	}
	return e
}

// problemOf writes a fault as the problem document (RFC 9457) that tells of it.
func problemOf(f *fault.Error, face face, instance, requestID string) Problem {
	p := Problem{
		Title: face.title, Status: face.status, Detail: f.Detail, Code: f.Code,
		Instance: instance, RequestId: requestID,
	}
	if p.Code == "" {
		p.Code = face.code
	}
	if f.Kind == fault.Internal {
		p.Code, p.Detail = face.code, "the server's log knows more under the request_id"
	}
	p.Type = "urn:tintype:problem:" + p.Code
	if len(f.Fields) > 0 {
		fields := make([]ProblemField, len(f.Fields))
		for i, x := range f.Fields {
			fields[i] = ProblemField{Pointer: x.Pointer, Detail: x.Detail}
		}
		p.Errors = &fields
	}
	return p
}

// writeProblem answers with a fault.
func writeProblem(w http.ResponseWriter, r *http.Request, f *fault.Error, requestID string) {
	writeFace(w, r, f, faceOf(f.Kind), requestID)
}

func writeFace(w http.ResponseWriter, r *http.Request, f *fault.Error, face face, requestID string) {
	q, say := refusalOf{f, face, r, requestID}, sayProblem
	if face.dialect != nil {
		say = face.dialect.say
	}
	answer := say(q)
	h := w.Header()
	h.Set("Content-Type", answer.contentType)
	h.Set("Content-Length", strconv.Itoa(len(answer.body)))
	for name, value := range answer.header {
		spell(h, name, value)
	}
	h.Set("Cache-Control", "no-store")
	for _, artifact := range []string{"ETag", "Content-Disposition", "Content-Security-Policy", "Last-Modified"} {
		h.Del(artifact)
	}
	if wait := f.Wait(); wait > 0 && !face.mute {
		h.Set("Retry-After", strconv.Itoa(retryAfter(wait, rand.Float64())))
	}
	if face.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="tintype"`)
	}
	w.WriteHeader(face.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(answer.body) // the client that went away is noticed by the server
	}
}

// sayProblem is Tintype's own way: a problem document (RFC 9457).
func sayProblem(q refusalOf) said {
	body, err := marshal(problemOf(q.Error, q.face, q.request.URL.Path, q.id))
	if extra := extraOf(q); err == nil && len(extra) > 0 {
		body, err = extend(body, extra)
	}
	if err != nil {
		body = []byte(`{}`) // strings and numbers always marshal
	}
	return said{contentType: "application/problem+json", body: body}
}

// extraOf is what a problem document has beside what each has.
func extraOf(q refusalOf) map[string]any {
	switch {
	case q.Kind == fault.Internal:
		return nil
	case q.Kind != fault.QuotaExceeded || q.Quota == nil:
		return q.Extra
	}
	extra := map[string]any{"used": fullCredits(q.Quota.Used), "limit": fullCredits(q.Quota.Limit), "resets_at": Time{q.Quota.ResetsAt}, "unit": q.Quota.Unit}
	if q.face.upgradeURL != "" {
		extra["upgrade_url"] = q.face.upgradeURL
	}
	maps.Copy(extra, q.Extra)
	return extra
}

// extend adds members behind those of a JSON object.
func extend(object []byte, extra map[string]any) ([]byte, error) {
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(object, []byte("}")))
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		value, err := marshal(extra[name])
		if err != nil {
			return nil, err
		}
		b.WriteString("," + strconv.Quote(name) + ":")
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// longestJitter keeps a wait for the next month from ending a day late.
const longestJitter = time.Minute

// retryAfter is a wait in whole seconds, lengthened by up to a tenth (roll is
// 0 to 1) so that clients that were refused together do not come back
// together. It is never shorter than the wait.
func retryAfter(wait time.Duration, roll float64) int {
	longer := wait + time.Duration(roll*float64(min(wait/10, longestJitter)))
	return int((longer + time.Second - 1) / time.Second)
}
