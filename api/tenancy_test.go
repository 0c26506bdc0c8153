package api

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// callers are whom the matrix below has a column for.
var callers = [...]string{"none", "malformed", "revoked", "other account", "read-only", "admin"}

// matrix is what each route answers to each caller, about a job, a key and an
// account that are the read-only key's: 404 to another account's key where the
// route names one of them. 401 is no key or a bad one; the admin token is no
// key, and a key is no admin token.
var matrix = map[string][len(callers)]int{
	"POST /v1/jobs":                   {401, 401, 401, 200, 403, 401},
	"GET /v1/jobs":                    {401, 401, 401, 200, 200, 401},
	"GET /v1/jobs/{id}":               {401, 401, 401, 404, 200, 401},
	"DELETE /v1/jobs/{id}":            {401, 401, 401, 404, 403, 401},
	"GET /v1/jobs/{id}/result":        {401, 401, 401, 404, 200, 401},
	"HEAD /v1/jobs/{id}/result":       {401, 401, 401, 404, 200, 401},
	"DELETE /v1/jobs/{id}/result":     {401, 401, 401, 404, 403, 401},
	"POST /v1/batches":                {401, 401, 401, 400, 403, 401}, // of no format
	"DELETE /v1/batches/{id}":         {401, 401, 401, 404, 403, 401},
	"GET /v1/batches/{id}/results":    {401, 401, 401, 404, 200, 401},
	"GET /v1/deliveries":              {401, 401, 401, 200, 200, 401},
	"GET /v1/deliveries/{id}":         {401, 401, 401, 404, 200, 401},
	"POST /v1/deliveries/{id}/replay": {401, 401, 401, 404, 403, 401},
	"GET /v1/devices":                 {401, 401, 401, 200, 200, 401},
	"GET /v1/queue":                   {401, 401, 401, 200, 200, 401},
	"GET /v1/usage":                   {401, 401, 401, 200, 200, 401},
	"GET /v1/usage/events":            {401, 401, 401, 200, 200, 401},
	"GET /v1/account":                 {401, 401, 401, 200, 200, 401},
	"GET /v1/screenshot":              {401, 401, 401, linked, 403, 401},
	"POST /v1/screenshot":             {401, 401, 401, linked, 403, 401},
	"GET /v1/pdf":                     {401, 401, 401, linked, 403, 401},
	"POST /v1/pdf":                    {401, 401, 401, linked, 403, 401},
	"GET /v1/batches/{id}/errors":     {401, 401, 401, 404, 200, 401},
	"GET /v1/jobs/{id}/events":        {401, 401, 401, 404, 200, 401},
	"GET /v1/events":                  {401, 401, 401, 200, 200, 401},
	"GET /v1/batches/{id}/events":     {401, 401, 401, 404, 200, 401},

	"GET /v1/batches":                    {401, 401, 401, 200, 200, 401},
	"GET /v1/batches/{id}":               {401, 401, 401, 404, 200, 401},
	"POST /v1/batches/{id}/cancel":       {401, 401, 401, 404, 403, 401},
	"POST /v1/batches/{id}/pause":        {401, 401, 401, 404, 403, 401},
	"POST /v1/batches/{id}/resume":       {401, 401, 401, 404, 403, 401},
	"POST /v1/batches/{id}/retry-failed": {401, 401, 401, 404, 403, 401},

	"GET /v1/account/webhook-secret":         {401, 401, 401, 200, 403, 401},
	"POST /v1/account/webhook-secret/rotate": {401, 401, 401, 200, 403, 401},
	"POST /v1/webhook-endpoints":             {401, 401, 401, 201, 403, 401},
	"GET /v1/webhook-endpoints":              {401, 401, 401, 200, 200, 401},
	"GET /v1/webhook-endpoints/{id}":         {401, 401, 401, 404, 200, 401},
	"PATCH /v1/webhook-endpoints/{id}":       {401, 401, 401, 404, 403, 401},
	"DELETE /v1/webhook-endpoints/{id}":      {401, 401, 401, 404, 403, 401},
	"POST /v1/webhook-endpoints/{id}/rotate": {401, 401, 401, 404, 403, 401},
	"POST /v1/webhook-endpoints/{id}/test":   {401, 401, 401, 404, 403, 401},
	"POST /v1/files":                         {401, 401, 401, 201, 403, 401},
	"GET /v1/files":                          {401, 401, 401, 200, 200, 401},
	"GET /v1/files/{id}":                     {401, 401, 401, 404, 200, 401},
	"DELETE /v1/files/{id}":                  {401, 401, 401, 404, 403, 401},

	"POST /admin/v1/accounts":                      {401, 401, 401, 401, 401, 201},
	"GET /admin/v1/accounts":                       {401, 401, 401, 401, 401, 200},
	"GET /admin/v1/accounts/{id}":                  {401, 401, 401, 401, 401, 200},
	"PATCH /admin/v1/accounts/{id}":                {401, 401, 401, 401, 401, 200},
	"POST /admin/v1/accounts/{id}/keys":            {401, 401, 401, 401, 401, 201},
	"GET /admin/v1/accounts/{id}/keys":             {401, 401, 401, 401, 401, 200},
	"DELETE /admin/v1/accounts/{id}/keys/{key_id}": {401, 401, 401, 401, 401, 204},
	"GET /admin/v1/usage":                          {401, 401, 401, 401, 401, 200},
	"GET /admin/v1/usage/events":                   {401, 401, 401, 401, 401, 200},
	"GET /admin/v1/bans":                           {401, 401, 401, 401, 401, 200},
	"POST /admin/v1/bans":                          {401, 401, 401, 401, 401, 201},
	"DELETE /admin/v1/bans":                        {401, 401, 401, 401, 401, 400}, // which names nobody
	"GET /admin/v1/audit":                          {401, 401, 401, 401, 401, 200},
	"GET /admin/v1/policy":                         {401, 401, 401, 401, 401, 200},
	"GET /admin/v1/plans":                          {401, 401, 401, 401, 401, 200},

	"GET /healthz":        {200, 200, 200, 200, 200, 200},
	"GET /readyz":         {200, 200, 200, 200, 200, 200},
	"GET /pressure":       {200, 200, 200, 200, 200, 200},
	"GET /metrics":        {401, 401, 401, 401, 401, 200}, // from another machine
	"GET /openapi.yaml":   {200, 200, 200, 200, 200, 200},
	"GET /openapi.json":   {200, 200, 200, 200, 200, 200},
	"GET /docs":           {200, 200, 200, 200, 200, 200},
	"GET /docs/start.js":  {200, 200, 200, 200, 200, 200},
	"GET /docs/scalar.js": {200, 200, 200, 200, 200, 200},
	"GET /{$}":            {200, 200, 200, 200, 200, 200},
}

// Every route there is, to everybody who may ask: a route that is not in the
// matrix fails, and so does a row without a route.
func TestTenancy(t *testing.T) {
	f := newFarm(t)
	f.rendersAll()
	_, readOnly := f.newKey(func(k *account.Key) { k.Scopes = []account.Scope{account.ScopeRead} })
	_, revoked := f.newKey(func(k *account.Key) { k.RevokedAt = time.Now() })
	_, otherKey := f.store.newAccount("other")
	shown := map[string]string{
		"none": "", "malformed": "Bearer tt_live_nonsense", "revoked": revoked["Authorization"], "other account": "Bearer " + otherKey,
		"read-only": readOnly["Authorization"], "admin": "Bearer " + adminToken,
	}
	bodies := map[string]string{
		"POST /admin/v1/accounts": `{"name":"new"}`, "PATCH /admin/v1/accounts/{id}": `{"suspended":false}`, "POST /admin/v1/accounts/{id}/keys": `{}`,
		"POST /v1/webhook-endpoints": `{"url":"https://example.com/","events":["job.failed"]}`, "PATCH /v1/webhook-endpoints/{id}": `{"enabled":false}`,
		"POST /admin/v1/bans": `{"subject":"address:203.0.113.7","reason":"hammering"}`,
	}
	rows := slices.Sorted(maps.Keys(matrix))
	for _, rt := range f.server.routes() {
		row, ok := matrix[rt.pattern]
		if !ok {
			t.Errorf("%s is not in the matrix: say what it answers to whom", rt.pattern)
			continue
		}
		rows = slices.DeleteFunc(rows, func(pattern string) bool { return pattern == rt.pattern })
		for i, caller := range callers {
			j := f.filed(job.NewID(), job.Succeeded, []byte("png"))
			k, _ := f.newKey(nil)
			method, path, _ := strings.Cut(rt.pattern, " ")
			id := string(j.ID)
			switch {
			case strings.HasPrefix(path, "/admin/"):
				id = f.acct.ID
			case strings.HasPrefix(path, "/v1/batches/"):
				id = f.batch(line(1, "")).ID
			case strings.HasPrefix(path, "/v1/deliveries/"):
				id = f.newDelivery().ID
			case strings.HasPrefix(path, "/v1/webhook-endpoints/"):
				id = f.newEndpoint().ID
			case strings.HasPrefix(path, "/v1/files/"):
				id = f.keepFile("pages.csv", "url\nhttps://example.com/\n").ID
			}
			path = strings.NewReplacer("{id}", id, "{key_id}", k.ID, "{$}", "").Replace(path)
			if row[3] == linked && method == "GET" { // the query of a render is its request
				path += "?html=x"
			}
			body := bodies[rt.pattern]
			if body == "" && method == "POST" {
				body = `{"html":"x"}`
			}
			a := f.do(method, path, body, header{"Authorization": shown[caller]})
			if a.Code != row[i] {
				t.Errorf("%s to %s: %d, want %d: %s", rt.pattern, caller, a.Code, row[i], a.Body)
			}
			if caller == "admin" && rt.auth == byAdmin {
				continue
			}
			said := strings.ReplaceAll(a.Body.String(), path, "") // a problem names what was asked
			if caller != "read-only" && (strings.Contains(said, f.acct.ID) || strings.Contains(said, string(j.ID)) && a.Code < 400) {
				t.Errorf("%s tells %s of the account: %s", rt.pattern, caller, said)
			}
			if j, err := f.store.Job(t.Context(), j.ID); err != nil || j.Result.Gone {
				t.Errorf("%s to %s changed the job", rt.pattern, caller)
			}
		}
	}
	if len(rows) > 0 {
		t.Errorf("no routes any more: %q", rows)
	}
}
