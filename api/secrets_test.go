package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
	"github.com/tintype/tintype/pkg/seal"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// allSecrets are the options that are kept sealed, but for basic_auth, which
// excludes authorization; "marker" is in each value.
const allSecrets = `"headers":{"X-Token":"marker-1"},"cookies":["sid=marker-2"],"authorization":"Bearer marker-3",` +
	`"proxy":"user:marker-5@proxy.example:3128"`

func wantSecrets() job.Secrets {
	return job.Secrets{
		Headers: map[string]string{"X-Token": "marker-1"}, Cookies: []string{"sid=marker-2"},
		Authorization: "Bearer marker-3", Proxy: "user:marker-5@proxy.example:3128",
	}
}

// newSecretFarm is a farm whose contract has every option that is kept sealed,
// and that hands over what it logs.
func newSecretFarm(t *testing.T, change ...func(*Config, *Deps)) (*farm, *seal.Box, func() string) {
	box, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text bytes.Buffer
	f := newFarm(t, append(change, func(cfg *Config, deps *Deps) {
		cfg.Secrets = box
		deps.Log = slog.New(slog.NewJSONHandler(writing(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return text.Write(p)
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})...)
	texts := openapi3.NewStringSchema()
	for _, o := range option.Table {
		if !o.Secret || f.server.jobFields.Properties[o.Name] != nil {
			continue
		}
		s := texts
		switch o.Kind {
		case option.List:
			s = openapi3.NewArraySchema().WithItems(texts)
		case option.Object:
			s = openapi3.NewObjectSchema().WithAdditionalProperties(texts)
		}
		f.server.jobFields.Properties[o.Name] = s.NewRef()
	}
	return f, box, func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writing func([]byte) (int, error)

func (w writing) Write(p []byte) (int, error) { return w(p) }

// secretsOf are those of a record, which must be sealed.
func secretsOf(t *testing.T, box *seal.Box, rec *pb.Record) job.Secrets {
	t.Helper()
	if wire, err := proto.Marshal(rec); err != nil || bytes.Contains(wire, []byte("marker")) {
		t.Errorf("the record holds a secret: %v, %v", rec, err)
	}
	plain, err := box.Open(rec.Body.Secrets, seal.Request, rec.Envelope.Account)
	if err != nil {
		t.Fatalf("the secrets of a record do not open: %v", err)
	}
	secrets, err := job.ParseSecrets(plain)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

// leaves fails if the bucket or anything else that is kept holds a secret.
func (f *farm) leaves(except ...string) {
	f.t.Helper()
	for _, key := range f.bucket.keys() {
		f.bucket.mu.Lock()
		holds := bytes.Contains(f.bucket.objects[key], []byte("marker"))
		f.bucket.mu.Unlock()
		if holds && !slices.Contains(except, key) {
			f.t.Errorf("the object %s holds a secret", key)
		}
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for what, rows := range map[string]any{"jobs": f.store.jobs, "batches": f.store.batches} {
		text, err := json.Marshal(rows)
		if err != nil || bytes.Contains(text, []byte("marker")) {
			f.t.Errorf("the archive's %s hold a secret: %s, %v", what, text, err)
		}
	}
}

// The secrets of a job leave the replica sealed, however it is submitted.
func TestSecretsLeaveSealed(t *testing.T) {
	f, box, logged := newSecretFarm(t, caching(t))
	f.leader.deciding(fromCache)
	every := []string{"authorization", "cookies", "headers", "proxy"}
	for what, page := range map[string]string{
		"small": `"url":"https://example.com/"`, "by way of the bucket": `"url":"https://example.com/","css":"` + strings.Repeat("x", inlineSpec) + `"`,
	} {
		a := f.do("POST", "/v1/jobs", "{"+page+","+allSecrets+"}", header{"Idempotency-Key": fmt.Sprint("key-", len(page))})
		j := a.job(t, http.StatusAccepted)
		rec := f.leader.record()
		if got := secretsOf(t, box, rec); !reflect.DeepEqual(got, wantSecrets()) {
			t.Errorf("%s: %v travel with the job", what, got.Given())
		}
		spec, err := job.ParseSpec(rec.Body.Spec)
		if err != nil || !slices.Equal(spec.Secret, every) || len(rec.Body.Spec) > inlineSpec {
			t.Errorf("%s: the spec names %v, %v", what, spec.Secret, err)
		}
		if shown := f.do("GET", "/v1/jobs/"+j.Id, ""); strings.Contains(a.Body.String()+shown.Body.String(), "marker") || !strings.Contains(shown.Body.String(), `"secrets":["authorization",`) {
			t.Errorf("%s: the job is shown as %s", what, shown.Body)
		}
	}
	f.submit(`{"url":"https://example.com/basic","basic_auth":"user:marker-4"}`)
	if got := secretsOf(t, box, f.leader.record()); got.BasicAuth != "user:marker-4" {
		t.Errorf("%v travel with the job that has basic_auth", got.Given())
	}
	if len(f.bucket.keys()) != 1 {
		t.Errorf("in the bucket is %q", f.bucket.keys())
	}
	f.leaves()
	if text := logged(); strings.Contains(text, "marker") {
		t.Errorf("logged: %s", text)
	}
}

// What tells two requests apart gives nobody a way to try what their secrets
// may be, and is what it was for requests without.
func TestSecretsAreToldApart(t *testing.T) {
	const page = `"url":"https://example.com/"`
	ask := func(f *farm, body string) *pb.Envelope {
		f.do("POST", "/v1/jobs", body, header{"Idempotency-Key": "k" + fmt.Sprint(time.Now().UnixNano())}).job(t, http.StatusAccepted)
		return f.envelope()
	}
	one, _, _ := newSecretFarm(t, caching(t))
	two, _, _ := newSecretFarm(t, caching(t))
	two.acct.ID = one.acct.ID
	plain, same, other := ask(one, "{"+page+"}"), ask(one, "{"+page+","+allSecrets+"}"), ask(one, `{`+page+`,"authorization":"Bearer marker-4"}`)
	again := ask(one, "{"+allSecrets+","+page+"}")
	if !bytes.Equal(same.CacheKey, again.CacheKey) || !bytes.Equal(same.Fingerprint, again.Fingerprint) {
		t.Error("the same request twice is two")
	}
	if bytes.Equal(plain.CacheKey, same.CacheKey) || bytes.Equal(same.CacheKey, other.CacheKey) || bytes.Equal(same.Fingerprint, other.Fingerprint) {
		t.Error("requests with other secrets are one")
	}
	elsewhere, bare := ask(two, "{"+page+","+allSecrets+"}"), ask(two, "{"+page+"}")
	if bytes.Equal(same.Fingerprint, elsewhere.Fingerprint) {
		t.Error("a fingerprint can be had without the farm's key")
	}
	if !bytes.Equal(plain.Fingerprint, bare.Fingerprint) {
		t.Error("without secrets a fingerprint depends on the farm's key")
	}
}

// A stale picture is made anew with the secrets that it was asked for with.
func TestRefreshKeepsSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, box, _ := newSecretFarm(t, caching(t))
		f.leader.deciding(fromCache)
		const body = `{"url":"https://example.com/",` + allSecrets + `}`
		f.submit(body)
		f.keep(f.filed(job.NewID(), job.Succeeded, []byte("\x89PNG")), 90*time.Second, time.Minute)
		f.do("POST", "/v1/jobs", body).job(t, http.StatusOK)
		synctest.Wait()
		rec := f.leader.record()
		if got := secretsOf(t, box, rec); !rec.Envelope.Revalidate || !reflect.DeepEqual(got, wantSecrets()) {
			t.Errorf("%v with %v", rec.Envelope, got.Given())
		}
	})
}

// The secrets of a batch, of its lines and of its defaults, are nowhere but in
// what was uploaded, and reach the jobs of its lines.
func TestSecretsOfABatch(t *testing.T) {
	f, box, logged := newSecretFarm(t)
	f.store.mu.Lock()
	f.store.feeds = true
	f.store.mu.Unlock()
	input := `{"url":"https://example.com/1"}` + "\n" +
		`{"url":"https://example.com/2","authorization":"Bearer marker-6"}` + "\n" +
		`{"url":"https://example.com/3","width":0,"authorization":"Bearer marker-7"}`
	target := "/v1/batches?on_error=skip&defaults=" + url.QueryEscape("{"+allSecrets+`,"width":800}`)
	a := f.do("POST", target, input, ndjson, header{"Idempotency-Key": "k1"})
	v := a.batch(t, http.StatusAccepted)
	f.until(v.Id, func(b *batch.Batch) bool { return b.Fed == 2 })
	got := map[uint32]job.Secrets{}
	f.leader.mu.Lock()
	records := slices.Clone(f.leader.records)
	f.leader.mu.Unlock()
	for _, rec := range records {
		got[rec.Envelope.Line] = secretsOf(t, box, rec)
		if !bytes.Contains(rec.Body.Spec, []byte(`"width":800`)) {
			t.Errorf("line %d lacks a default: %s", rec.Envelope.Line, rec.Body.Spec)
		}
	}
	second := wantSecrets()
	second.Authorization = "Bearer marker-6"
	if want := map[uint32]job.Secrets{1: wantSecrets(), 2: second}; !reflect.DeepEqual(got, want) {
		t.Errorf("the lines went with %v", got)
	}
	b, err := f.store.Batch(t.Context(), f.acct.ID, v.Id)
	if err != nil {
		t.Fatal(err)
	}
	f.leaves(b.Input)
	for _, look := range []answered{a, f.do("GET", "/v1/batches/"+v.Id, ""), f.do("GET", "/v1/batches/"+v.Id+"/errors", ""), f.do("POST", target, input, ndjson, header{"Idempotency-Key": "k1"})} {
		if strings.Contains(look.Body.String(), "marker") || look.Code >= 300 {
			t.Errorf("%d %s", look.Code, look.Body)
		}
	}
	if text := logged(); strings.Contains(text, "marker") {
		t.Errorf("logged: %s", text)
	}

	// Another key than they were sealed with: the batch, and a line, say so.
	elsewhere, _, _ := newSecretFarm(t)
	elsewhere.store.newAccount("tester2")
	b.Lines, b.Failure = "", ""
	if err := f.server.validate(t.Context(), b); err != nil || b.Failure != "" {
		t.Errorf("validated again: %q, %v", b.Failure, err)
	}
	elsewhere.server.deps.Store, elsewhere.server.deps.Bucket = f.store, f.bucket
	if err := elsewhere.server.validate(t.Context(), b); err != nil || !strings.Contains(b.Failure, "upload it again") {
		t.Errorf("validated with another key: %q, %v", b.Failure, err)
	}
	spec := job.Defaults()
	line := &batch.Line{Number: 1, Spec: spec.Marshal(), Secrets: f.server.sealed(f.acct.ID, &second)}
	if _, err := elsewhere.server.submissionOf(f.acct.ID, line, nil); err == nil || !strings.Contains(err.Error(), "submit it again") || strings.Contains(err.Error(), "marker") {
		t.Errorf("fed with another key: %v", err)
	}
}

// Whatever is wrong with a secret, the refusal does not repeat it.
func TestRefusalsRepeatNoSecret(t *testing.T) {
	f, _, logged := newSecretFarm(t)
	for name, values := range map[string][]string{
		"headers":       {`"marker"`, `{"not a name":"marker"}`, `{"X":"marker\nX: marker"}`, `{"X":["marker"]}`, `{"X":"` + strings.Repeat("marker", 5000) + `"}`},
		"cookies":       {`"marker"`, `["marker\u0000"]`, `[{"marker":1}]`, `["` + strings.Repeat("marker", 5000) + `"]`, `["marker"` + strings.Repeat(`,"marker"`, 200) + `]`},
		"authorization": {`["marker"]`, `"marker\r\nX: marker"`, `"` + strings.Repeat("marker", 5000) + `"`},
		"basic_auth":    {`["marker"]`, `"marker-without-a-colon\n"`, `"` + strings.Repeat("marker:", 5000) + `"`},
		"proxy":         {`["marker"]`, `"://marker@:marker"`, `"marker@10.0.0.1:99999"`, `"` + strings.Repeat("marker", 5000) + `"`},
	} {
		for _, value := range values {
			a := f.do("POST", "/v1/jobs", `{"url":"https://example.com/","`+name+`":`+value+`}`)
			if strings.Contains(a.Body.String(), "marker") {
				t.Errorf("%s: %.60s: %d %s", name, value, a.Code, a.Body)
			}
		}
	}
	if text := logged(); strings.Contains(text, "marker") {
		t.Errorf("logged: %s", text)
	}
}
