package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// dry is what a dry run says.
func (f *farm) dry(target, body string, headers ...header) DryRun {
	f.t.Helper()
	a := f.do("POST", target, body, headers...)
	if a.Code != http.StatusOK {
		f.t.Fatalf("%d %s", a.Code, a.Body)
	}
	var out DryRun
	a.json(f.t, &out)
	return out
}

func TestDryRun(t *testing.T) {
	f := newFarm(t)
	lines := []string{`{"url":"https://example.com/","custom_id":"a"}`}
	for n := range 150 {
		lines = append(lines, fmt.Sprintf(`{"url":"file:///%d"}`, n))
	}
	lines = append(lines, `{"html":"x"}`)
	text := strings.Join(lines, "\n")
	file := f.keepFile("pages.jsonl.gz", packed(t, text))
	body, form := formOf(part{"file", "pages.jsonl", "", text}, part{name: "dry_run", text: "true"})
	before := len(f.bucket.keys())
	for name, got := range map[string]DryRun{
		"a body":        f.dry("/v1/batches?dry_run=true", text, ndjson),
		"a packed body": f.dry("/v1/batches?dry_run=true", packed(t, text), ndjson, header{"Content-Encoding": "gzip"}),
		"a form":        f.dry("/v1/batches", body, form),
		"a file":        f.dry("/v1/batches", `{"file_id":"`+file.ID+`","dry_run":true}`, header{"Content-Type": "application/json"}),
	} {
		if got.Lines != 152 || got.Valid != 2 || got.Invalid != 150 || len(got.Errors) != maxTold || got.Failure == nil || !strings.Contains(*got.Failure, "150 of the 152") {
			t.Errorf("%s: %+v", name, got)
		}
		if e := got.Errors[0]; e.Line != 2 || deref(e.Column) != 8 || e.Code != "invalid_url" || e.Pointer != "/url" || e.Detail == "" {
			t.Errorf("%s: %+v", name, e)
		}
		if got.Price.Credits != 2 || got.Price.Unit != "render" || got.Price.Overage != nil {
			t.Errorf("%s: %+v", name, got.Price)
		}
	}
	if got := f.dry("/v1/batches?dry_run=true&on_error=skip", text, ndjson); got.Failure != nil {
		t.Errorf("fails: %s", *got.Failure)
	}
	got := f.dry("/v1/batches?dry_run=true", "url,widht\nhttps://example.com/,1", header{"Content-Type": "text/csv"})
	if got.Lines != 0 || got.Failure == nil || *got.Failure != `line 1, column 5: the column "widht" is not offered; did you mean width?` || len(got.Errors) != 1 || got.Errors[0].Pointer != "/widht" {
		t.Errorf("%+v", got)
	}
	if after := f.bucket.keys(); len(after) != before || len(f.store.batches) > 0 {
		t.Errorf("stored: %q, %+v", after, f.store.batches)
	}
}

func TestDryRunPrices(t *testing.T) {
	policy, err := account.ParsePolicy("policy.yaml", []byte(`
version: 1
plans:
- {name: default, quota: {unit: render, limit: 100, overage: {above: 100, price_per_unit: 0.002}}}
- {name: calls, quota: {unit: request, limit: 100}}
- {name: free}
`))
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policy = policy })
	f.leader.countBy(func(q *pb.Count) *pb.Answer {
		if q.Account != f.acct.ID {
			return &pb.Answer{}
		}
		return &pb.Answer{Meters: []*pb.Meter{{Kind: pb.Meter_KIND_QUOTA, Limit: 100 * 120, Remaining: 5 * 120}}}
	})
	month, _ := account.MonthUTC.Span(time.Now(), 1)
	f.store.usage = map[string][]account.UsageDay{f.acct.ID + " " + month.Format(time.DateOnly): {{Day: month, Units: 95 * 120}}}
	text := strings.Repeat("https://example.com/\n", 25)
	plain := header{"Content-Type": "text/plain"}
	got := f.dry("/v1/batches?dry_run=true", text, plain)
	if p := got.Price; p.Unit != "render" || p.Credits != 25 || deref(p.Remaining) != 5 || p.Overage == nil || p.Overage.Credits != 20 || p.Overage.Cost != "0.04" || p.Overage.PricePerUnit != "0.002" {
		t.Errorf("%+v %+v", p, p.Overage)
	}
	if p := f.dry("/v1/batches?dry_run=true", text, plain, f.keyOn("calls")).Price; p.Unit != "request" || p.Credits != 25 || p.Overage != nil {
		t.Errorf("%+v", p)
	}
	if p := f.dry("/v1/batches?dry_run=true", text, plain, f.keyOn("free")).Price; p.Unit != "render" || p.Credits != 25 || p.Remaining != nil || p.Overage != nil {
		t.Errorf("%+v", p)
	}
}

// Everything that may be wrong with a line, and where.
func TestLineErrors(t *testing.T) {
	f := newFarm(t, withPolicy(t))
	for _, c := range []struct{ media, query, text, want string }{
		{"application/x-ndjson", "", `{"url":"https://example.com/"`, "1:29 malformed_json  the line is not JSON"},
		{"application/x-ndjson", "", `["https://example.com/"]`, "1:1 invalid_input  the line must be a JSON object, not a list"},
		{"application/x-ndjson", "", `{"url":"https://example.com/", "width" : "wide"}`, "1:42 invalid_input /width must be a whole number, not a string"},
		{"application/x-ndjson", "", `{"url":"https://example.com/","url":"https://example.com/2"}`, "1:37 invalid_input /url is given twice"},
		{"application/x-ndjson", "", `{"url":"https://example.com/","URL":1}`, "1:37 invalid_input /URL is not offered; write it url"},
		{"application/x-ndjson", "", `{"url":"https://example.com/","metadata":{"a":1}}`, "1:42 invalid_input /metadata/a must be a string, not a number"},
		{"application/x-ndjson", "", `{}`, "1:0 invalid_input /url give url, html or markdown"},
		{"application/x-ndjson", "", `{"url":"ftp://example.com/"}`, "1:8 invalid_url /url has the scheme"},
		{"application/x-ndjson", "", `{"url":"https://example.com/","timeout_ms":70000}`, "1:44 invalid_input /timeout_ms must be 1000 to 60000 milliseconds"},
		{"application/x-ndjson", "", "{\"html\":\"a\\u0000\"}", "1:9 invalid_input /html holds U+0000"},
		{"application/x-ndjson", "", strings.Repeat(`{"metadata":`, 40) + "1" + strings.Repeat("}", 40), "1:0 malformed_json  the line is nested more than 32 deep"},
		{"application/x-ndjson", "", `{"html":"a","custom_id":"x"}` + "\n\n" + `{"html":"b","custom_id":"x"}`, "3:0 invalid_input /custom_id is that of line 1"},
		{"application/x-ndjson", `{"html":"x"}`, `{"url":"https://example.com/","html":"y"}`, "1:38 invalid_input /html give url or html, not both"},
		{"application/x-ndjson", `{"width":10,"html":"x"}`, `{"retina":true,"device_scale_factor":3}`, "1:11 invalid_input /retina is device_scale_factor 2"},
		{"text/csv", "", "url,width,full_page,metadata.a\nhttps://example.com/,12.5,,", "2:22 invalid_input /width must be a whole number, not a fraction"},
		{"text/csv", "", "url,full_page\nhttps://example.com/,yes", "2:22 invalid_input /full_page must be true or false, not \"yes\""},
		{"text/csv", "", "url,metadata.a\nhttps://example.com/,\"" + strings.Repeat("x", 600) + "\"", "2:22 invalid_input /metadata/a must be at most 512 characters long"},
		{"text/csv", "", "custom_id,width\na,100", "2:0 invalid_input /url give url, html or markdown"},
		{"text/csv", "", "url,format\nhttps://example.com/,dxf", "2:22 invalid_input /format must be one of png, jpeg"},
		{"text/plain", "", "example.com", "1:1 invalid_url /url is not an absolute URL"},
	} {
		target := "/v1/batches?dry_run=true"
		if c.query != "" {
			target += "&defaults=" + url.QueryEscape(c.query)
		}
		got := f.dry(target, c.text, header{"Content-Type": c.media})
		if len(got.Errors) == 0 {
			t.Errorf("%.60q is taken for good", c.text)
			continue
		}
		e := got.Errors[0]
		if said := fmt.Sprintf("%d:%d %s %s %s", e.Line, deref(e.Column), e.Code, e.Pointer, e.Detail); !strings.HasPrefix(said, c.want) {
			t.Errorf("%.60q: %s\nwant %s", c.text, said, c.want)
		}
	}
	for text, want := range map[string]string{
		"":                          "the input is empty",
		"url,url":                   "line 1, column 5: the column \"url\" is there twice",
		"url,,width":                "line 1, column 5: the column has no name",
		"url,metadata":              "line 1, column 5: the column \"metadata\" is an object",
		"Url":                       "line 1, column 1: the column \"Url\" is not offered; write it url",
		"url,\"a\nhttps://x.test/":  "line 1",
		"\xff\xfeu\x00r\x00":        "line 1: the input is UTF-16",
		"url\n":                     "the input has no lines",
		"url\n" + packed(t, "x"):    "",
		packed(t, packed(t, "url")): "line 1",
		packed(t, "url\n"+strings.Repeat(strings.Repeat("x", 60<<10)+"\n", 40)): "the input unpacks to more than 100 times its size",
	} {
		if text == "" {
			continue // refused before it is read
		}
		got := f.dry("/v1/batches?dry_run=true", text, header{"Content-Type": "text/csv"})
		if got.Failure == nil || !strings.HasPrefix(*got.Failure, want) {
			t.Errorf("%.40q: %+v", text, got)
		}
	}
}
