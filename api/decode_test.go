package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// FuzzBody: what the decoder takes, encoding/json reads the same; what it
// refuses is a fault of kind Invalid with words; nothing panics.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"url":"https://example.com/"}`, `{"html":"<p>","width":80.0,"metadata":{"a":"b"}}`, `{"url":1,"url":2}`, `[[[]]]`, `null`, `"\u0000"`,
		`{"URL":"x"}`, `{"width":1e400}`, `{"html":"x","device_scale_factor":1e400}`, `{"html":"x","metadata":{"a":1e400}}`, `{"width":-0}`, `{"device_scale_factor":1E0}`, "\ufeff{}", `{"a":"\ud800"}`, `{"metadata":null}`, `{"format":7,"quality":{}}`,
		`{"url":"https://e.com/","format":"pdf","pdf_page_size":"a4","pdf_margin_top":"1e9cm","pdf_page_range":"9-1,,","pdf_header":"<script>","pdf_scale":1e-9}`,
		`{"html":"x","click":["a",""],"fail_if_content_missing":[],"scroll_to":"-1","hide_selector":"//a","full_page":true,"max_height":1,"skip_scroll":true}`,
		`{"html":"x","clip":"1,2,3,4","selector":"a[","thumb_width":1,"img_fit":"contain","img_bg":"#fff","img_position":"entropy","transparent":true,"format":"webp"}`,
		`{"html":"x","headers":{"A":"b\r\n"},"cookies":["a=b; Domain=x"],"basic_auth":"a:b","authorization":"x","proxy":"u:p@h:1","latitude":91,"longitude":0,"tz":"Mars/X","accept_lang":"de, *;q=0"}`,
		`{"html":"x","device":"iphone 15","landscape":true,"mobile":false,"touch":true,"retina":false,"user_agent":"\u0001"}`,
	} {
		f.Add([]byte(s))
	}
	ops, err := loadContract()
	if err != nil {
		f.Fatal(err)
	}
	op := ops["POST /v1/jobs"]
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := op.decodeBody(body)
		if err == nil {
			var sub *submission
			sub, err = submissionFrom(in, job.PNG, terms{plan: account.Default()})
			if err == nil {
				if !json.Valid(body) || !utf8.Valid(body) {
					t.Fatalf("accepted %q", body)
				}
				var req JobRequest
				if in.raw != nil && json.Unmarshal(body, &req) != nil {
					t.Fatalf("accepted %q", body)
				}
				if wrong := sub.spec.Normalize(60_000); len(wrong) > 0 {
					t.Fatalf("normalising twice: %v", wrong[0])
				}
				if strings.Contains(string(sub.spec.Marshal())+sub.customID, "\x00") {
					t.Fatalf("%q brought U+0000 in", body)
				}
				return
			}
		}
		bad := fault.From(err)
		if bad.Kind != fault.Invalid || bad.Detail == "" {
			t.Fatalf("%q: %v", body, err)
		}
		for _, field := range bad.Fields {
			if field.Detail == "" || len(field.Pointer) > maxPointer+4 {
				t.Fatalf("%q: %+v", body, field)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"url=https://e.com/", "url=x&url=y", "width=1e2&html=x", "width=0x1&html=x", "%zz", "full_page=TRUE", "a;b=c", "=", "&&", "width=%00",
		"html=x&click=a&click=b&click=", "html=x&headers=A:b&headers=A:c&headers=", "html=x&block_resources=image,font&block_urls=*", "html=x&clip=1,2,3,4&full_page=true&max_height=0",
	} {
		f.Add(s)
	}
	ops, err := loadContract()
	if err != nil {
		f.Fatal(err)
	}
	op := ops["GET /v1/screenshot"]
	f.Fuzz(func(t *testing.T, query string) {
		if _, err := submissionFrom(op.decodeQuery(query), job.PNG, terms{plan: account.Default()}); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("%q: %v", query, err)
		}
	})
}

// Bounds are told as people write them.
func TestBoundsInWords(t *testing.T) {
	f := newFarm(t)
	p := f.do("POST", "/v1/jobs", `{"html":"x","ttl_s":-1}`).problem(t, 400, "invalid_input")
	if p.Detail != "ttl_s: must be 0 to 31536000" {
		t.Error(p.Detail)
	}
}

// Numbers that no double holds are told of by name wherever they stand, and
// are never passed over.
func TestTooLargeNumbers(t *testing.T) {
	f := newFarm(t)
	for body, pointer := range map[string]string{
		`{"html":"x","device_scale_factor":1e400}`:  "/device_scale_factor",
		`{"html":"x","device_scale_factor":-1e400}`: "/device_scale_factor",
		`{"html":"x","device_scale_factor":1e39}`:   "/device_scale_factor",
		`{"html":"x","width":1e400}`:                "/width",
		`{"html":"x","format":1e400}`:               "/format",
		`{"html":"x","full_page":1e400}`:            "/full_page",
		`{"html":"x","metadata":1e400}`:             "/metadata",
		`{"html":"x","metadata":{"a":1e400}}`:       "/metadata/a",
	} {
		p := f.do("POST", "/v1/jobs", body).problem(t, 400, "invalid_input")
		if len(*p.Errors) != 1 || (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, *p.Errors)
		}
	}
	for _, name := range []string{"device_scale_factor", "width"} {
		p := f.do("GET", "/v1/screenshot?html=x&"+name+"=1e400", "").problem(t, 400, "invalid_input")
		if e := *p.Errors; len(e) != 1 || e[0].Pointer != name || e[0].Detail != "is too large a number" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strings.Repeat("é", 200) + strconv.Itoa(i) + `":1`)
	}
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	in, err := ops["POST /v1/jobs"].decodeBody([]byte("{" + b.String() + "}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = submissionFrom(in, job.PNG, terms{plan: account.Default()})
	bad := fault.From(err)
	if len(bad.Fields) != maxProblems || len(in.problems) < 5000 {
		t.Errorf("%d of %d problems", len(bad.Fields), len(in.problems))
	}
	for _, f := range bad.Fields {
		if len(f.Pointer) > maxPointer+4 || !utf8.ValidString(f.Pointer) {
			t.Errorf("pointer of %d bytes", len(f.Pointer))
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	ops, err := loadContract()
	if err != nil {
		b.Fatal(err)
	}
	op := ops["POST /v1/jobs"]
	body := []byte(`{"url":"https://example.com/a/page?with=query","format":"jpeg","width":1280,"height":800,"full_page":true,"custom_id":"line-17","metadata":{"customer":"acme"}}`)
	b.ReportAllocs()
	for b.Loop() {
		in, err := op.decodeBody(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := submissionFrom(in, job.PNG, terms{plan: account.Default()}); err != nil {
			b.Fatal(err)
		}
	}
}
