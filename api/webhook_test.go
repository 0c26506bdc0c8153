package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// A job's own webhook goes with it to the leader, in its one form, and changes
// nothing else about the job.
func TestJobWebhook(t *testing.T) {
	f := newFarm(t)
	for _, c := range []struct {
		body   string
		url    string
		events []string
	}{
		{`{"html":"x"}`, "", nil},
		{`{"html":"x","webhook_url":" https://EXAMPLE.com/a b?c=d#e "}`, "https://example.com/a%20b?c=d", nil},
		{`{"html":"x","webhook_url":"https://example.com/","webhook_events":["job.failed","job.expired"]}`, "https://example.com/", []string{"job.failed", "job.expired"}},
	} {
		j := f.submit(c.body)
		rec := f.leader.records[len(f.leader.records)-1]
		if w := rec.Body.Webhook; w.GetUrl() != c.url || (w == nil) != (c.url == "") || !slices.Equal(w.GetEvents(), c.events) {
			t.Errorf("%s: told is %v", c.body, w)
		}
		if strings.Contains(string(rec.Body.Spec), "example.com") || rec.Envelope.Id != j.Id {
			t.Errorf("%s: rendered is %s", c.body, rec.Body.Spec)
		}
	}
}

func TestBadJobWebhooks(t *testing.T) {
	f := newFarm(t)
	for body, want := range map[string]string{
		`"webhook_url":""`: "webhook_url: must not be empty",
		`"webhook_url":"https://example.com/` + strings.Repeat("a", 2029) + `"`: "webhook_url: must be at most 2048 characters long",
		`"webhook_url":"https://example.com/` + strings.Repeat("é", 1000) + `"`: "webhook_url: is 6020 bytes long once it is escaped; at most 2048 are accepted",
		`"webhook_url":null`:                                                               "webhook_url: must be a string, not null",
		`"webhook_url":["https://example.com/"]`:                                           "webhook_url: must be a string, not a list",
		`"webhook_url":"example.com"`:                                                      "webhook_url: is not an absolute URL",
		`"webhook_url":"http://example.com"`:                                               "webhook_url: is http, where",
		`"webhook_url":"https://a:b@example.com"`:                                          "webhook_url: holds credentials",
		`"webhook_url":"data:text/plain,x"`:                                                `webhook_url: has the scheme "data"`,
		`"webhook_url":"https://example.com","webhook_events":[]`:                          "webhook_events: must not be empty",
		`"webhook_url":"https://example.com","webhook_events":["job.done"]`:                "webhook_events/0: must be one of job.succeeded, job.failed",
		`"webhook_url":"https://example.com","webhook_events":["batch.completed"]`:         "webhook_events/0: must be one of job.succeeded, job.failed",
		`"webhook_url":"https://example.com","webhook_events":["job.failed","job.failed"]`: "webhook_events: has an entry twice",
		`"webhook_url":"https://example.com","webhook_events":"job.failed"`:                "webhook_events: must be a list, not a string",
		`"webhook_events":["job.failed"]`:                                                  "webhook_events: says what webhook_url is told of, and there is none",
		`"webhook_url":7,"webhook_events":["job.failed"]`:                                  "webhook_url: must be a string, not a number",
		`"webhook_uri":"https://example.com"`:                                              "webhook_uri: is not offered; did you mean webhook_url?",
	} {
		p := f.do("POST", "/v1/jobs", `{"html":"x",`+body+`}`).problem(t, 400, "invalid_input")
		if !strings.HasPrefix(p.Detail, want) || len(*p.Errors) != 1 {
			t.Errorf("%s: %q %v, want %q", body, p.Detail, *p.Errors, want)
		}
	}
	if len(f.leader.records) > 0 {
		t.Errorf("%d were published", len(f.leader.records))
	}
	// A call that waits is told by its answer.
	for _, path := range []string{"/v1/screenshot", "/v1/pdf"} {
		f.do("POST", path, `{"html":"x","webhook_url":"https://example.com"}`).problem(t, 400, "invalid_input")
		f.do("GET", path+"?html=x&webhook_url=https://example.com", "").problem(t, 400, "invalid_input")
	}
}

// Where the installation permits http, it does so for jobs and lines as well.
func TestJobWebhookAllowHTTP(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.WebhookAllowHTTP = true })
	f.submit(`{"html":"x","webhook_url":"http://example.com/"}`)
	if _, lines := f.validated(f.upload("/v1/batches", `{"html":"x","webhook_url":"http://example.com/"}`, ndjson).Id); len(lines) != 1 || len(lines[0].Errors) > 0 {
		t.Errorf("%+v", lines)
	}
}

// Clients without a key have no secret that would sign for them.
func TestJobWebhookNeedsAKey(t *testing.T) {
	policy, err := account.ParsePolicy("test", []byte("version: 1\nanonymous_plan: free\nplans:\n- {name: free, threads: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(c *Config, _ *Deps) { c.Policy = policy })
	p := f.do("POST", "/v1/jobs", `{"html":"x","webhook_url":"https://example.com/"}`, header{"Authorization": ""}).problem(t, 400, "invalid_input")
	if !strings.Contains(p.Detail, "send an API key") {
		t.Error(p.Detail)
	}
}

// Lines have webhooks as jobs do, and that of the defaults is the batch's own.
func TestBatchWebhook(t *testing.T) {
	f := newFarm(t)
	const defaults = `?defaults=%7B%22webhook_url%22%3A%22https%3A%2F%2FEXAMPLE.com%22%2C%22webhook_events%22%3A%5B%22job.failed%22%5D%7D`
	own := &job.Webhook{URL: "https://example.com/", Events: []string{"job.failed"}}
	for _, c := range []struct {
		body string
		head header
		want []*job.Webhook // of the lines
	}{
		{
			`{"html":"a"}` + "\n" + `{"html":"b","webhook_url":"https://example.org/"}` + "\n" + `{"html":"c","webhook_events":["job.succeeded"]}`, ndjson,
			[]*job.Webhook{own, {URL: "https://example.org/", Events: own.Events}, {URL: own.URL, Events: []string{"job.succeeded"}}},
		},
		{
			"url,webhook_url,webhook_events\nhttps://a.example,,\nhttps://b.example,https://example.org,job.succeeded job.failed\n",
			header{"Content-Type": "text/csv"},
			[]*job.Webhook{own, {URL: "https://example.org/", Events: []string{"job.succeeded", "job.failed"}}},
		},
	} {
		b, lines := f.validated(f.upload("/v1/batches"+defaults, c.body, c.head).Id)
		if b.Webhook == nil || b.Webhook.URL != own.URL {
			t.Errorf("the batch's own is %+v", b.Webhook)
		}
		if len(lines) != len(c.want) {
			t.Fatalf("%+v", lines)
		}
		for i, l := range lines {
			if w := l.Webhook; w == nil || w.URL != c.want[i].URL || !slices.Equal(w.Events, c.want[i].Events) {
				t.Errorf("line %d: %+v %+v, want %+v", l.Number, w, l.Errors, c.want[i])
			}
		}
	}
	b, lines := f.validated(f.upload("/v1/batches?on_error=skip", `{"html":"a","webhook_url":"http://example.com/"}`+"\n"+`{"html":"a"}`, ndjson).Id)
	if b.Webhook != nil || b.Invalid != 1 || lines[0].Webhook != nil || len(lines[0].Errors) != 1 || lines[0].Errors[0].Pointer != "/webhook_url" {
		t.Errorf("%+v: %+v", b, lines)
	}
	p := f.do("POST", "/v1/batches?defaults=%7B%22webhook_url%22%3A%22ftp%3A%2F%2Fx%22%7D", `{"html":"a"}`, ndjson).problem(t, 400, "invalid_input")
	if e := *p.Errors; len(e) != 1 || e[0].Pointer != "defaults/webhook_url" {
		t.Errorf("bad defaults: %+v", e)
	}
}
