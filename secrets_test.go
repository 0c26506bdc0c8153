package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tintype/tintype/pkg/needtest"
)

// A heap gathers what is written from anywhere.
type heap struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heap) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heap) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// What a farm sends while its secrets are rotated is verified, with either of
// two, by a library that is not ours; and however much it logs, no secret of its
// own or of its clients is in it: not what opens or signs, and not what stands
// in addresses, pages and messages.
func TestLogsTellNoSecrets(t *testing.T) {
	needtest.Farm(t)
	var log heap
	w := newWorld(t)
	w.log = &log
	t.Setenv("TINTYPE_LOG_LEVEL", "debug")
	type message struct {
		header http.Header
		body   []byte
	}
	arrived := make(chan message, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			arrived <- message{r.Header, body}
		}
		http.Error(rw, "hush-answer", http.StatusTeapot)
	}))
	defer receiver.Close()
	f := w.up("--webhook-allow-http", "--egress-allow", strings.TrimPrefix(receiver.URL, "http://"))

	secrets := map[string]string{}
	for _, name := range []string{"admin.token", "worker.token", "secret.key", "s3.secret", "first.key"} {
		text, err := os.ReadFile(filepath.Join(w.data(), name))
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = strings.TrimSpace(string(text))
	}
	key, admin := secrets["first.key"], secrets["admin.token"]
	// call asks the farm, and keeps every secret that it is told.
	call := func(token, method, path, body string) map[string]any {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var told map[string]any
		raw, err := io.ReadAll(resp.Body)
		if err != nil || json.Unmarshal(raw, &told) != nil {
			t.Fatalf("%s %s: %s %q, %v", method, path, resp.Status, raw, err)
		}
		for _, name := range []string{"secret", "key", "signing_secret"} {
			if text, ok := told[name].(string); ok {
				secrets[fmt.Sprintf("%s of %s %s", name, method, path)] = text
			}
		}
		return told
	}
	hook := receiver.URL + "/hush-path?token=hush-query"
	made := call(key, "POST", "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q,"events":["job.succeeded","job.failed"],"description":"hush-words"}`, hook))
	rotated := call(key, "POST", fmt.Sprintf("/v1/webhook-endpoints/%v/rotate", made["id"]), "")
	own := call(key, "GET", "/v1/account/webhook-secret", "")
	ownNext := call(key, "POST", "/v1/account/webhook-secret/rotate", "")
	account := call(admin, "POST", "/admin/v1/accounts", `{"name":"acme"}`)
	call(admin, "POST", fmt.Sprintf("/admin/v1/accounts/%v/keys", account["id"]), `{"name":"ci"}`)
	call("tt_live_abcdefghijkl_hush", "GET", "/v1/jobs", "")
	call("hush-token", "GET", "/admin/v1/accounts", "")
	call("", "GET", "/v1/screenshot?url=https://example.com/hush-link&key_id=abcdefghijkl&expires=1&sig=hush-signature", "")
	rendered := call(key, "POST", "/v1/jobs?wait=60", fmt.Sprintf(`{"html":"<h1>hush-page<script>console.error('hush-console')</script><img src='/hush-image?hush-image'>","webhook_url":%q,"custom_id":"hush-name","metadata":{"hush-key":"hush-value"}}`, hook))
	refused := call(key, "POST", "/v1/jobs?wait=60", fmt.Sprintf(`{"url":"http://127.0.0.1:1/hush-page?hush-query","webhook_url":%q}`, hook))
	if rendered["status"] != "succeeded" || refused["status"] != "failed" {
		t.Errorf("rendered: %v; refused: %v", rendered["status"], refused["status"])
	}
	// Two ends, each told to the endpoint and to the job's own address; while
	// secrets are rotated either of a pair verifies them, and no other.
	pairs := [][2]any{{made["secret"], rotated["secret"]}, {own["secret"], ownNext["secret"]}}
	seen := map[string]int{} // which pair, by webhook-id
	for deadline := time.After(time.Minute); len(seen) < 4; {
		select {
		case <-deadline:
			t.Fatalf("only %d messages have arrived", len(seen))
		case m := <-arrived:
			for i, pair := range pairs {
				var right [2]bool
				for j, secret := range pair {
					hook, err := standardwebhooks.NewWebhook(fmt.Sprint(secret))
					if err != nil {
						t.Fatal(err)
					}
					right[j] = hook.Verify(m.body, m.header) == nil
				}
				if right[0] != right[1] {
					t.Errorf("only one of two live secrets verifies %s: %v", m.body, right)
				}
				if right[0] {
					seen[m.header.Get("webhook-id")] = i
				}
			}
			if _, ok := seen[m.header.Get("webhook-id")]; !ok {
				t.Fatalf("no secret verifies %s with %v", m.body, m.header)
			}
		}
	}
	ofAccount := 0
	for _, pair := range seen {
		ofAccount += pair
	}
	if ofAccount != 2 {
		t.Errorf("%d of 4 messages are signed for the account, want 2", ofAccount)
	}
	if code := f.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	w.noStrays()

	said := log.String()
	for _, id := range []any{made["id"], rendered["id"], refused["id"]} {
		if !strings.Contains(said, fmt.Sprint(id)) {
			t.Errorf("the log does not tell of %v: was that the log?", id)
		}
	}
	secrets["what stands in addresses, pages and messages"] = "hush"
	secrets["a password of a link"] = "X-Amz-Signature="
	for name, text := range secrets {
		for line := range strings.Lines(said) {
			if strings.Contains(line, text) {
				t.Errorf("%s is in the log: %s", name, strings.ReplaceAll(line, text, "***"))
			}
		}
	}
	if len(secrets) < 13 {
		t.Errorf("only %d secrets were looked for", len(secrets))
	}
}
