package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
)

// listed is a schema with a list of texts, a list of words, and an object, as
// the contract writes them for a body.
func listed(t *testing.T) *openapi3.Schema {
	t.Helper()
	var s openapi3.Schema
	err := json.Unmarshal([]byte(`{"type":"object","properties":{
		"url":{"type":"string"},
		"click":{"type":"array","maxItems":3,"items":{"type":"string","minLength":1}},
		"block_resources":{"type":"array","items":{"type":"string","enum":["image","font"]}},
		"headers":{"type":"object","additionalProperties":{"type":"string"}}}}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// A list in a query is its parameter, once for each entry.
func TestListsInAQuery(t *testing.T) {
	s := listed(t)
	s.Properties["headers"] = &openapi3.SchemaRef{Value: &openapi3.Schema{Type: &openapi3.Types{"array"}, Items: &openapi3.SchemaRef{Value: &openapi3.Schema{Type: &openapi3.Types{"string"}}}}}
	op := &operation{query: s}
	for query, want := range map[string]string{
		"click=a,b&click=c d":                        `{"click":["a,b","c d"]}`,
		"block_resources=image,font":                 `{"block_resources":["image","font"]}`,
		"block_resources=image&block_resources=font": `{"block_resources":["image","font"]}`,
		"block_resources=video":                      `block_resources/0: must be one of image, font`,
		"click=":                                     `click/0: must not be empty`,
		"click=a&click=b&click=c&click=d":            `click: must have at most 3 entries`,
		"click=a&click=%00":                          `click: is not UTF-8 text without U+0000`,
		"url=a&url=b":                                `url: is given twice`,
		"headers=A:%20b&headers=C:d:e":               `{"headers":{"A":"b","C":"d:e"}}`,
		"headers=A:b&headers=A:c":                    `headers: has "A" twice`,
		"headers=A":                                  `headers: must be Name: value, and one has no colon`,
	} {
		in := op.decodeQuery(query)
		got, err := json.Marshal(in.members)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, p := range in.problems {
			told = append(told, p.Pointer+": "+p.Detail)
		}
		if told != nil {
			got = []byte(strings.Join(told, "; "))
		}
		if string(got) != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// A list in CSV is its column, once for each entry; an object has a column for
// each member.
func TestListsInColumns(t *testing.T) {
	lr := &lineReading{fields: listed(t), format: batch.CSV}
	header := []lines.Cell{{Text: "url"}, {Text: "click"}, {Text: "headers.A"}, {Text: "click"}, {Text: "headers.B.c"}, {Text: "block_resources"}}
	if err := lr.name(header); err != nil {
		t.Fatal(err)
	}
	record := []lines.Cell{{Text: "http://x/"}, {Text: "a, b"}, {Text: "1"}, {Text: "c"}, {Text: "2"}, {Text: "image font"}}
	got, err := json.Marshal(lr.cells(record))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"block_resources":["image","font"],"click":["a, b","c"],"headers":{"A":"1","B.c":"2"},"url":"http://x/"}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, names := range []string{"url,url", "headers", "url.x", "click.x", "headers."} {
		var header []lines.Cell
		for name := range strings.SplitSeq(names, ",") {
			header = append(header, lines.Cell{Text: name})
		}
		if err := (&lineReading{fields: listed(t), format: batch.CSV}).name(header); err == nil {
			t.Errorf("the columns %s pass", names)
		}
	}
}

// What is not offered is refused by name and with the way out, in a body and in
// a query.
func TestNotOffered(t *testing.T) {
	f := newFarm(t)
	for _, c := range []struct{ name, value, want string }{
		{"video_codec", `"h264"`, "video_codec: is not offered: moving pictures are not made"},
		{"viewport_width", `800`, "viewport_width: is not offered: here it is width"},
		{"delay", `3`, "delay: is not offered: here it is delay_ms, in milliseconds"},
		{"Width", `800`, "Width: is not offered; write it width"},
		{"widht", `800`, "widht: is not offered; did you mean width?"},
		{"colour", `"red"`, "colour: is not offered"},
		{"format", `"avif"`, "format: is not offered: there is no encoder for it that can be served; webp is the nearest"},
	} {
		p := f.do("POST", "/v1/jobs", fmt.Sprintf(`{"html":"x",%q:%s}`, c.name, c.value)).problem(t, 400, "invalid_input")
		if p.Detail != c.want {
			t.Errorf("body: %s, want %s", p.Detail, c.want)
		}
		p = f.do("GET", "/v1/screenshot?html=x&"+url.Values{c.name: {strings.Trim(c.value, `"`)}}.Encode(), "").problem(t, 400, "invalid_input")
		if p.Detail != c.want {
			t.Errorf("query: %s, want %s", p.Detail, c.want)
		}
	}
}

// Of a query, where all is text, what is wrong is told by its value; and a URL
// that was not escaped is told of where its own query was taken for options.
func TestWrongQueries(t *testing.T) {
	f := newFarm(t)
	const hint = "; if it is a part of the page's URL, percent-encode the value of url (? is %3F, & is %26)"
	for query, want := range map[string]string{
		"url=http://x.test/&full_page=1":              `full_page: must be true or false, not "1"`,
		"url=http://x.test/&width=abc":                `width: must be a whole number, not "abc"`,
		"url=http://x.test/&width=1.5":                `width: must be a whole number, not a fraction`,
		"url=http://x.test/echo?a=1&b=2":              "b: is not offered" + hint,
		"url=http://x.test/echo%3Fa=1&b=2":            "b: is not offered",
		"url=http://x.test/echo%3Fa=1%26c=?&widht=20": "widht: is not offered; did you mean width?" + hint,
		"html=?&b=2": "b: is not offered",
		"html=y&device_scale_factor=" + strings.Repeat("x", 1000): `device_scale_factor: must be a number, not "` + strings.Repeat("x", maxPointer) + `…"`,
	} {
		if p := f.do("GET", "/v1/screenshot?"+query, "").problem(t, 400, "invalid_input"); p.Detail != want {
			t.Errorf("%s: %s, want %s", query, p.Detail, want)
		}
	}
	p := f.do("POST", "/v1/jobs", `{"html":"y","width":"abc"}`).problem(t, 400, "invalid_input")
	if want := "width: must be a whole number, not a string"; p.Detail != want {
		t.Errorf("body: %s, want %s", p.Detail, want)
	}
}

// What another endpoint offers is said to be there.
func TestOfferedElsewhere(t *testing.T) {
	f := newFarm(t)
	for _, c := range []struct{ target, body, want string }{
		{"/v1/screenshot", `"format":"pdf"`, "format: must be one of png, jpeg, webp, jpg here; for pdf ask /v1/pdf or /v1/jobs"},
		{"/v1/screenshot", `"format":"md"`, "format: must be one of png, jpeg, webp, jpg here; for md ask /v1/jobs"},
		{"/v1/pdf", `"format":"png"`, "format: must be one of pdf here; for png ask /v1/screenshot or /v1/jobs"},
		{"/v1/screenshot", `"format":"dxf"`, `format: must be one of png, jpeg, webp, jpg`},
		{"/v1/screenshot", `"webhook_url":"https://example.com/"`, "webhook_url: is not offered here; POST /v1/jobs takes it"},
		{"/v1/pdf", `"webhook_events":["job.failed"]`, "webhook_events: is not offered here; POST /v1/jobs takes it"},
	} {
		p := f.do("POST", c.target, `{"url":"https://example.com/",`+c.body+`}`).problem(t, 400, "invalid_input")
		if p.Detail != c.want {
			t.Errorf("%s %s: %s, want %s", c.target, c.body, p.Detail, c.want)
		}
	}
	// Another spelling of a word is taken for it.
	if a := f.do("POST", "/v1/jobs", `{"url":"https://example.com/","block_resources":["document"]}`); a.Code != 202 || !strings.Contains(a.Body.String(), `"block_resources":["frame"]`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ttl_s", "webhook_url", "webhook_events", "custom_id", "metadata", "force"} {
		if !option.Beside(name) || ops["POST /v1/jobs"].body.Properties[name] == nil {
			t.Errorf("POST /v1/jobs does not take %s", name)
		}
	}
}

// A text that has not its form is told the form, and an empty one is told once.
func TestFormIsTold(t *testing.T) {
	f := newFarm(t)
	for _, c := range []struct{ body, want string }{
		{`"user_agent":"a\nb"`, "user_agent: does not have the form it must have: ASCII letters, digits, signs and blanks"},
		{`"user_agent":"ü"`, "user_agent: does not have the form it must have: ASCII letters"},
		{`"user_agent":""`, "user_agent: must not be empty"},
		{`"custom_id":""`, "custom_id: must not be empty"},
		{`"format":"pdf","pdf_page_range":""`, "pdf_page_range: must not be empty"},
		{`"format":"pdf","pdf_margin_top":"1e2mm"`, "pdf_margin_top: does not have the form it must have: a number without an exponent, with mm"},
		{`"basic_auth":"nocolon"`, "basic_auth: does not have the form it must have: user:password"},
		{`"clip":""`, "clip: does not have the form it must have: four numbers"},
	} {
		p := f.do("POST", "/v1/jobs", `{"url":"https://example.com/",`+c.body+`}`).problem(t, 400, "invalid_input")
		if !strings.HasPrefix(p.Detail, c.want) || len(*p.Errors) != 1 {
			t.Errorf("%s: %s (%d problems), want %s", c.body, p.Detail, len(*p.Errors), c.want)
		}
	}
}

// All that is wrong with headers and cookies is told, each by its own pointer.
func TestWrongHeadersAndCookies(t *testing.T) {
	f := newFarm(t)
	pointers := func(p Problem) (told []string) {
		for _, e := range *p.Errors {
			told = append(told, e.Pointer+": "+e.Detail)
		}
		return told
	}
	body := `{"url":"https://example.com/","headers":{"Host":"a","X-Ok":"b","a/b":"c"},"cookies":["sid=1","sid"]}`
	got := strings.Join(pointers(f.do("POST", "/v1/jobs", body).problem(t, 400, "invalid_input")), "\n")
	for _, want := range []string{"/headers/Host: may not be set as a header; it goes with the URL", "/headers/a~1b: is no name", "/cookies/1: wants name=value"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	got = strings.Join(pointers(f.do("GET", "/v1/screenshot?url=https://example.com/&headers=X-Ok", "").problem(t, 400, "invalid_input")), "\n")
	if want := "headers/0: does not have the form it must have: `Name: value`."; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Every option that is offered is in the contract, wherever its formats are, and
// in docs/options.md.
func TestEveryOptionIsInTheContract(t *testing.T) {
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range option.Table {
		offered := option.Find(o.Name) != nil
		in := func(where string, s *openapi3.Schema, want bool) {
			if has := s.Properties[o.Name] != nil; has != want {
				t.Errorf("%s: in %s is %t, want %t", o.Name, where, has, want)
			}
		}
		picture := slices.ContainsFunc(option.Pictures, o.ForFormat)
		in("POST /v1/jobs", ops["POST /v1/jobs"].body, offered)
		in("POST /v1/screenshot", ops["POST /v1/screenshot"].body, offered && picture)
		in("GET /v1/screenshot", ops["GET /v1/screenshot"].query, offered && picture)
		in("POST /v1/pdf", ops["POST /v1/pdf"].body, offered && o.ForFormat("pdf"))
		in("GET /v1/pdf", ops["GET /v1/pdf"].query, offered && o.ForFormat("pdf"))
		if strings.Contains(string(docs), "\n| `"+o.Name+"` |") != offered {
			t.Errorf("%s: docs/options.md is not what the table says", o.Name)
		}
	}
}

// The examples of docs/options.md are good requests.
func TestExamplesOfOptions(t *testing.T) {
	text, err := os.ReadFile("../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t)
	ran := make(map[string]int)
	for _, m := range regexp.MustCompile("(?ms)^```(json|http|csv)\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		kind, example := m[1], m[2]
		ran[kind]++
		switch kind {
		case "json":
			if a := f.do("POST", "/v1/jobs", example); a.Code != 202 {
				t.Errorf("%s: %d %s", example, a.Code, a.Body)
			}
		case "csv":
			a := f.do("POST", "/v1/batches?dry_run=true", example, header{"Content-Type": "text/csv"})
			if a.Code != 200 || !strings.Contains(a.Body.String(), `"invalid":0`) {
				t.Errorf("%s: %d %s", example, a.Code, a.Body)
			}
		case "http":
			for line := range strings.Lines(example) {
				method, target, _ := strings.Cut(strings.TrimSpace(line), " ")
				path, query, _ := strings.Cut(target, "?")
				if _, err := submissionFrom(ops[method+" "+path].decodeQuery(query), job.PNG, terms{plan: account.Default()}); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	}
	if ran["json"] < 2 || ran["csv"] < 1 || ran["http"] < 1 {
		t.Errorf("examples: %v", ran)
	}
}

// What lines have in common is judged as far as it can be without them, and a
// default for another format than a line's is passed over.
func TestDefaultsForOtherFormats(t *testing.T) {
	f := newFarm(t)
	csv := header{"Content-Type": "text/csv"}
	with := func(defaults string) string {
		return "/v1/batches?dry_run=true&defaults=" + url.QueryEscape(defaults)
	}
	if a := f.do("POST", with(`{"pdf_margin":"none","clip":"0,0,9,9"}`), "url,format\nhttps://example.com/,pdf\nhttps://example.com/,png\n", csv); a.Code != 200 || !strings.Contains(a.Body.String(), `"valid":2`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := f.do("POST", with(`{"pdf_margin":"none"}`), "url\nhttps://example.com/\n", csv); !strings.Contains(a.Body.String(), `is for pdf alone, and format is png`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	p := f.do("POST", with(`{"pdf_margin":"wide"}`), "url\nhttps://example.com/\n", csv).problem(t, 400, "invalid_input")
	if p.Detail != `defaults/pdf_margin: must be one of default, none, minimum, not "wide"` {
		t.Error(p.Detail)
	}
}
