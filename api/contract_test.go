package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

func contract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapiYAML)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestContractIsValid(t *testing.T) {
	doc := contract(t)
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
	if strings.Contains(string(openapiYAML), "oneOf") {
		t.Error("the contract has a union")
	}
}

// The route table and the contract have the same routes and the same needs.
func TestRoutesAreTheContracts(t *testing.T) {
	f := newFarm(t)
	doc := contract(t)
	routes := make(map[string]route)
	for _, rt := range f.server.routes() {
		routes[rt.key()] = rt
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			rt, ok := routes[method+" "+path]
			if !ok {
				t.Errorf("no route for %s %s", method, path)
				continue
			}
			delete(routes, method+" "+path)
			security := doc.Security
			if op.Security != nil {
				security = *op.Security
			}
			got := byNobody
			for _, s := range security {
				if _, ok := s["key"]; ok {
					got = byKey
				}
				if _, ok := s["admin"]; ok {
					got = byAdmin
				}
			}
			if len(security) > 1 {
				got = byAdminOffHost
			}
			if got != rt.auth {
				t.Errorf("%s %s: the table needs %d, the contract %d", method, path, rt.auth, got)
			}
		}
	}
	for key := range routes {
		t.Errorf("%s is not in the contract", key)
	}
}

// Every example of the contract does what it says, against the server.
func TestExamples(t *testing.T) {
	f := newFarm(t)
	doc := contract(t)
	good, bad := 0, 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil {
				continue
			}
			media := op.RequestBody.Value.Content["application/json"]
			if media == nil {
				continue
			}
			send := func(value any) answered {
				body, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				id := f.acct.ID
				if strings.HasPrefix(path, "/v1/webhook-endpoints/") {
					id = f.newEndpoint().ID
				}
				target := strings.Replace(path, "{id}", id, 1)
				if strings.HasPrefix(path, "/admin") {
					return f.admin(method, target, string(body))
				}
				if strings.HasPrefix(path, "/v1/jobs") || strings.HasPrefix(path, "/v1/batches") || strings.HasPrefix(path, "/v1/webhook-endpoints") {
					return f.do(method, target, string(body), header{"Content-Type": "application/json"})
				}
				// A render answers when its job has ended.
				done := make(chan answered, 1)
				go func() { done <- f.do(method, target, string(body)) }()
				select {
				case a := <-done:
					return a
				case q := <-f.leader.looked:
					f.succeed(q.Id, []byte("bytes"))
					return <-done
				}
			}
			for name, ex := range media.Examples {
				good++
				if a := send(ex.Value.Value); a.Code >= 300 {
					t.Errorf("%s %s, example %s: %d %s", method, path, name, a.Code, a.Body)
				}
			}
			raw, err := json.Marshal(media.Extensions["x-bad-examples"])
			if err != nil {
				t.Fatal(err)
			}
			var examples map[string]struct {
				Value    any
				Code     string
				Pointers []string
			}
			if err := json.Unmarshal(raw, &examples); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			for name, ex := range examples {
				bad++
				p := send(ex.Value).problem(t, http.StatusBadRequest, ex.Code)
				var got []string
				for _, e := range *p.Errors {
					got = append(got, e.Pointer)
				}
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(ex.Pointers)); !slices.Equal(got, want) {
					t.Errorf("%s %s, bad example %s: %q, want %q", method, path, name, got, want)
				}
			}
		}
	}
	if good < 7 || bad < 15 {
		t.Errorf("only %d good and %d bad examples", good, bad)
	}
}

// Defaults and ranges of the contract are pkg/job's.
func TestOptionsAreTheDomains(t *testing.T) {
	doc := contract(t)
	var defaults map[string]any
	if err := json.Unmarshal(domainDefaults(), &defaults); err != nil {
		t.Fatal(err)
	}
	properties := doc.Components.Schemas["JobRequest"].Value.Properties
	normalize := func(field string, v any) []*job.FieldError {
		spec := job.Defaults()
		spec.HTML = "x"
		raw, err := json.Marshal(map[string]any{field: v})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &spec); err != nil {
			t.Fatal(err)
		}
		// What goes with what is another question.
		return slices.DeleteFunc(spec.Normalize(60_000), func(e *job.FieldError) bool { return e.Others || e.Field != field })
	}
	refused := func(field string, v float64) bool {
		// Nought of an option that has no default is its absence to the domain,
		// and refused by the contract.
		return v == 0 && defaults[field] == nil || len(normalize(field, v)) > 0
	}
	if ttl := properties["ttl_s"].Value; *ttl.Min != 0 || *ttl.Max != job.MaxTTL.Seconds() {
		t.Errorf("ttl_s: %v to %v, a policy has 0 to %v", *ttl.Min, *ttl.Max, job.MaxTTL.Seconds())
	}
	for name, ref := range properties {
		if name == "ttl_s" {
			continue // it is the request's, not the picture's
		}
		s := ref.Value
		if want, ok := defaults[name]; ok && name != "url" && name != "html" && toJSON(t, s.Default) != toJSON(t, want) {
			t.Errorf("%s: default %v, in the domain %v", name, s.Default, want)
		}
		step := 1.0
		if s.Type.Is("number") {
			step = 0.01
		}
		for _, e := range s.Enum {
			if errs := normalize(name, e); len(errs) > 0 {
				t.Errorf("%s: %v is refused: %v", name, e, errs[0])
			}
		}
		if s.Min != nil && (len(normalize(name, *s.Min)) > 0 || !refused(name, *s.Min-step)) {
			t.Errorf("%s: minimum %v is not the domain's", name, *s.Min)
		}
		if s.Max != nil && (len(normalize(name, *s.Max)) > 0 || len(normalize(name, *s.Max+step)) == 0) {
			t.Errorf("%s: maximum %v is not the domain's", name, *s.Max)
		}
	}
	for name := range defaults {
		if properties[name] == nil {
			t.Errorf("the contract does not offer %s", name)
		}
	}
	var codes []string
	for _, c := range slices.Sorted(maps.Keys(job.Codes)) {
		codes = append(codes, string(c))
	}
	described := strings.Fields(doc.Components.Schemas["Failure"].Value.Properties["code"].Value.Description)
	for _, c := range codes {
		if !slices.ContainsFunc(described, func(w string) bool { return strings.Trim(w, "`.") == c }) {
			t.Errorf("the contract does not name the code %s", c)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the server answers is what the contract says it does, members that are
// null included.
func TestAnswersAreTheContracts(t *testing.T) {
	f := newFarm(t)
	doc := contract(t)
	check := func(schema string, a answered) {
		t.Helper()
		var v any
		a.json(t, &v)
		if err := doc.Components.Schemas[schema].Value.VisitJSON(v, openapi3.MultiErrors(), openapi3.VisitAsResponse(), openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s: %v\n%s", schema, err, a.Body)
		}
	}
	queued := f.do("POST", "/v1/jobs", `{"html":"x"}`)
	check("Job", queued)
	id := queued.job(t, 202).Id
	f.succeed(id, []byte("png"))
	check("Job", f.do("GET", "/v1/jobs/"+id, ""))
	id = f.submit(`{"url":"https://example.com/"}`).Id
	f.fail(id, job.TLSError, job.StageNavigate, "bad certificate")
	check("Job", f.do("GET", "/v1/jobs/"+id, ""))
	f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, []byte("x"))
	check("JobList", f.do("GET", "/v1/jobs", ""))
	f.charged(f.acct.ID, date(t, "2026-02-01"), 2)
	f.store.usage = map[string][]account.UsageDay{f.acct.ID + " 2026-02-01": {{Day: date(t, "2026-02-03"), Units: 240, Renders: 2}}}
	check("Usage", f.do("GET", "/v1/usage", ""))
	check("Usage", f.do("GET", "/v1/usage?period=2026-02", ""))
	check("UsageEventList", f.do("GET", "/v1/usage/events?period=2026-02", ""))
	check("UsageEventList", f.do("GET", "/v1/usage/events", ""))
	check("Self", f.do("GET", "/v1/account", ""))
	check("AccountOverview", f.admin("GET", "/admin/v1/accounts/"+f.acct.ID, ""))
	check("AccountUsageList", f.admin("GET", "/admin/v1/usage?period=2026-02", ""))
	check("AccountUsageList", f.admin("GET", "/admin/v1/usage", ""))
	check("Batch", f.do("POST", "/v1/batches", "https://example.com/", header{"Content-Type": "text/plain"}))
	check("DryRun", f.do("POST", "/v1/batches?dry_run=true", "https://example.com/\nfile:///x", header{"Content-Type": "text/plain"}))
	check("File", f.do("POST", "/v1/files?name=a.csv", "url\nhttps://example.com/"))
	check("FileList", f.do("GET", "/v1/files", ""))
	check("Problem", f.do("GET", "/nothing", ""))
	check("Problem", f.do("POST", "/v1/jobs", `{}`))
	check("Ready", f.do("GET", "/readyz", ""))
	check("Health", f.do("GET", "/healthz", ""))
	check("NewAccount", f.admin("POST", "/admin/v1/accounts", `{"name":"n"}`))
	check("AccountList", f.admin("GET", "/admin/v1/accounts", ""))
	f.leader.bans = f.store.changeBan
	check("Ban", f.admin("POST", "/admin/v1/bans", `{"subject":"address:203.0.113.7","reason":"r"}`))
	check("BanList", f.admin("GET", "/admin/v1/bans", ""))
	check("AuditList", f.admin("GET", "/admin/v1/audit", ""))
	check("PlanList", f.admin("GET", "/admin/v1/plans", ""))
	check("NewKey", f.admin("POST", "/admin/v1/accounts/"+f.acct.ID+"/keys", `{}`))
	check("KeyList", f.admin("GET", "/admin/v1/accounts/"+f.acct.ID+"/keys", ""))
}

func domainDefaults() []byte {
	spec := job.Defaults()
	return spec.Marshal()
}
