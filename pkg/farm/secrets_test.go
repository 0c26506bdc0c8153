package farm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/option"
)

// secretCases are a value of each option that is kept sealed, and how the one
// who is meant sees it. "hush" is in each value.
var secretCases = map[string]struct {
	value any
	seen  func(*http.Request) bool
}{
	"headers":       {map[string]string{"X-Token": "hush-in-a-header"}, func(r *http.Request) bool { return r.Header.Get("X-Token") == "hush-in-a-header" }},
	"cookies":       {[]string{"sid=hush-in-a-cookie"}, func(r *http.Request) bool { return strings.Contains(r.Header.Get("Cookie"), "sid=hush-in-a-cookie") }},
	"authorization": {"Bearer hush-in-a-token", func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer hush-in-a-token" }},
	"basic_auth":    {"user:hush-in-a-password", func(r *http.Request) bool { _, p, _ := r.BasicAuth(); return p == "hush-in-a-password" }},
	"proxy":         {"user:hush-in-a-proxy@PROXY", func(r *http.Request) bool { return r.Header.Get("Proxy-Authorization") != "" }},
}

// recorder is what many goroutines write into.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// What a job says to its page's server reaches that, and is in no answer, no
// webhook, no event, no log, and in nothing that the farm keeps: its streams,
// its database, its objects. What is not secret is found everywhere, so that
// looking there means something.
func TestSecretsAreNowhere(t *testing.T) {
	needtest.Farm(t)
	var seen sync.Map // name of an option → the page's server saw its value
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, c := range secretCases {
			if c.seen(r) {
				seen.Store(name, true)
			}
		}
		if strings.HasPrefix(r.URL.Path, "/basic_auth") {
			if _, _, ok := r.BasicAuth(); !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="page"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		io.WriteString(w, "<title>found-title</title><h1>Hello")
	}))
	defer page.Close()
	at := strings.TrimPrefix(page.URL, "http://") // its proxy, too: it takes whole URLs
	var told recorder
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(&told, r.Body) }))
	defer receiver.Close()

	dir, door := openDir(t), freeAddress(t)
	var logged, answers recorder
	p := process(t, "up")
	p.Log, p.Out = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})), &logged
	t.Setenv("TMPDIR", openDir(t)) // where the browsers' folders go
	parsed, err := config.Parse([]string{
		"up", "--data", filepath.Join(dir, "data"), "--listen", door, "--seats", "1", "--webhook-allow-http", "--drain-limit", "10s",
		"--egress-allow", at, "--egress-allow", strings.TrimPrefix(receiver.URL, "http://"),
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg := parsed.Up
	stop := start(t, "up", func(ctx context.Context) error { return p.Up(ctx, cfg) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := ready(ctx, "http://"+door); err != nil {
		t.Fatalf("%v\n%s", err, logged.String())
	}
	key, err := os.ReadFile(filepath.Join(cfg.Data, "first.key"))
	if err != nil {
		t.Fatal(err)
	}
	// do gives the answer's body, and keeps it to be looked at.
	do := func(method, path, contentType, body string) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+door+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		where, _, _ := strings.Cut(path, "?")
		fmt.Fprintf(&answers, "%s %s: %v %s\n", method, where, resp.Header, text)
		return text
	}
	offered := map[string]any{}
	for _, o := range option.Table {
		c, known := secretCases[o.Name]
		if o.Secret && !known {
			t.Errorf("%s is kept sealed, and is not in this test", o.Name)
		}
		if !known {
			continue
		}
		if text, is := c.value.(string); is {
			c.value = strings.ReplaceAll(text, "PROXY", at)
		}
		offered[o.Name] = c.value
	}
	if len(offered) == 0 {
		t.Fatal("no option is kept sealed")
	}
	line := func(more map[string]any) string {
		text, err := json.Marshal(more)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var ids, lines []string
	for name, value := range offered {
		request := map[string]any{
			"url": page.URL + "/" + name, name: value, "custom_id": "found-" + name, "webhook_url": receiver.URL, "ttl_s": 60,
			"metadata": map[string]string{"large": strings.Repeat("x", 400)},
		}
		var j struct{ ID, Status string }
		if err := json.Unmarshal(do("POST", "/v1/jobs?wait=60", "application/json", line(request)), &j); err != nil || j.ID == "" {
			t.Fatalf("%s: %+v, %v: %s", name, j, err, answers.String())
		}
		ids = append(ids, j.ID)
		delete(request, "custom_id")
		delete(request, "webhook_url")
		request["url"] = page.URL + "/" + name + "/line"
		lines = append(lines, line(request))
		// One that goes by way of the bucket.
		request["css"] = "/* found-css " + strings.Repeat("x", 20<<10) + " */"
		do("POST", "/v1/jobs?wait=60", "application/json", line(request))
	}
	for _, id := range ids {
		text := do("GET", "/v1/jobs/"+id, "", "")
		if !bytes.Contains(text, []byte(`"status":"succeeded"`)) || !bytes.Contains(text, []byte(`"secrets":["`)) {
			t.Errorf("the job is %s", text)
		}
		do("GET", "/v1/jobs/"+id+"/events", "", "") // it has ended, and so has its stream
	}
	var b struct {
		ID    string
		Links struct{ Self string }
	}
	target := "/v1/batches?defaults=" + url.QueryEscape(line(map[string]any{"cookies": []string{"sid=hush-in-the-defaults"}}))
	if err := json.Unmarshal(do("POST", target, "application/x-ndjson", strings.Join(lines, "\n")), &b); err != nil || b.ID == "" {
		t.Fatal(answers.String())
	}
	for !bytes.Contains(do("GET", "/v1/batches/"+b.ID, "", ""), []byte(`"status":"completed"`)) {
		select {
		case <-ctx.Done():
			t.Fatal(answers.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	do("GET", "/v1/batches/"+b.ID+"/results", "", "")
	do("GET", "/v1/jobs?limit=200", "", "")
	do("GET", "/v1/deliveries?limit=200", "", "")
	for name := range offered {
		if _, was := seen.Load(name); !was {
			t.Errorf("%s did not reach whom it is for", name)
		}
	}
	stop()

	for what, text := range map[string]string{"answers": answers.String(), "webhooks": told.String(), "log": logged.String()} {
		if i := strings.Index(text, "hush"); i >= 0 {
			t.Errorf("the %s hold a secret: …%s", what, text[max(0, i-300):min(len(text), i+100)])
		}
		if !strings.Contains(text, ids[0]) {
			t.Errorf("the %s do not even hold a job's id: %.2000s", what, text)
		}
	}
	found := map[string]bool{}
	err = filepath.WalkDir(cfg.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		within, _ := filepath.Rel(cfg.Data, path)
		part, _, _ := strings.Cut(within, "/")
		found[part] = found[part] || bytes.Contains(text, []byte("found-"))
		if i := bytes.Index(text, []byte("hush")); i >= 0 && !strings.HasSuffix(within, "/input") {
			t.Errorf("%s holds a secret: …%q", within, text[max(0, i-100):min(len(text), i+50)])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"nats", "postgres", "s3"} {
		if !found[part] {
			t.Errorf("in %s not even a custom_id is found", part)
		}
	}
}
