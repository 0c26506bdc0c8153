package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A dialect is how the answers of a plan look where it speaks as another
// service does, on Tintype's own routes: its refusals and its headers, in that
// service's spelling. What a request may hold and what it answers with when all
// is well is Tintype's.
type dialect interface {
	// face says how a fault looks, given how it looks to everybody else and what
	// the plan says of it.
	face(f *fault.Error, ours face) face
	// say is the body of a refusal.
	say(q refusalOf) said
	// limits spells the headers that tell what is left.
	limits(h http.Header, l left)
	// render adds the headers of a render that succeeded.
	render(h http.Header, j *job.Job, node string)
}

// dialects are all there are; Tintype's own is none.
var dialects = map[account.Dialect]dialect{
	account.DialectPage2images:   page2images{},
	account.DialectWebshot:       webshot{},
	account.DialectUrlbox:        urlbox{},
	account.DialectScreenshotAPI: screenshotAPI{},
	account.DialectShotit:        shotit{},
}

// refusalOf is a fault on its way to whoever asked.
type refusalOf struct {
	*fault.Error
	face    face
	request *http.Request
	id      string // of the request
}

// said is the body of a refusal. Without one the answer has none.
type said struct {
	contentType string
	body        []byte
	header      map[string]string // beside those of every refusal, in this spelling
}

// left is what the headers of an answer are made of: the rate that matters
// most, and the quota; nil where there is none, or nobody knows.
type left struct {
	rate, quota *pb.Meter
}

// limitsIn respells the limit headers of an answer for a plan's dialect.
func limitsIn(h http.Header, d account.Dialect, l left) {
	if to := dialects[d]; to != nil {
		to.limits(h, l)
	}
}

// renderIn adds a dialect's headers of a render.
func renderIn(h http.Header, d account.Dialect, j *job.Job, node string) {
	if to := dialects[d]; to != nil {
		to.render(h, j, node)
	}
}

// plain has what most dialects do not do.
type plain struct{}

func (plain) limits(http.Header, left)             {}
func (plain) render(http.Header, *job.Job, string) {}

// spell sets a header under exactly this name, where net/http would write
// X-Ratelimit-Limit.
func spell(h http.Header, name, value string) {
	h.Del(name)
	h[name] = []string{value}
}

// respell gives headers that are there exactly these names.
func respell(h http.Header, names ...string) {
	for _, name := range names {
		if values := h.Values(name); len(values) > 0 {
			h.Del(name)
			h[name] = values
		}
	}
}

// members are a JSON object in this order.
type members []member

type member struct {
	name  string
	value any
}

func (o members) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.WriteString(strconv.Quote(m.name) + ":")
		b.Write(value)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// sayJSON is a body in JSON.
func sayJSON(v any) said {
	body, err := marshal(v)
	if err != nil {
		body = []byte(`{}`) // strings and numbers always marshal
	}
	return said{contentType: "application/json", body: body}
}

// detail is the fault's text for the client. Of what only the log knows it says
// as much as a problem document does.
func (q refusalOf) detail() string {
	switch {
	case q.Kind == fault.Internal:
		return "An error of the server; its log knows more under the request's id."
	case q.Detail == "":
		return q.face.title
	case q.Kind == fault.Invalid && len(q.Fields) > 1: // a problem document lists them
		all := make([]string, len(q.Fields))
		for i, f := range q.Fields {
			all[i] = strings.TrimPrefix(f.Pointer, "/") + " " + f.Detail
		}
		return strings.Join(all, "; ")
	}
	return q.Detail
}

// code is the fault's stable code in Tintype's words.
func (q refusalOf) code() string {
	if q.Code == "" || q.Kind == fault.Internal {
		return q.face.code
	}
	return q.Code
}

// isoDate is a moment as dialects write it, to the second.
func isoDate(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
