package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// /docs shows every call of the contract in a real browser, which asks nobody
// but this server and finds nothing against the page's policy.
func TestDocsInABrowser(t *testing.T) {
	needtest.Browser(t)
	f := newFarm(t)
	site := httptest.NewServer(f.server.Handler())
	defer site.Close()
	dir := t.TempDir()
	net := filepath.Join(dir, "net.json")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var dom, said bytes.Buffer
	// The page is ours: it needs no sandbox, which root would have to give up.
	cmd := exec.CommandContext(ctx, needtest.Chromium, "--no-sandbox", "--disable-gpu", "--user-data-dir="+dir, "--log-net-log="+net, "--enable-logging=stderr", "--v=0",
		"--window-size=1280,1000", "--virtual-time-budget=20000", "--dump-dom", site.URL+"/docs")
	cmd.Stdout, cmd.Stderr = &dom, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(dom.String(), "")
	for _, want := range []string{"Tintype", "Submit a job", "Fetch the artifact", "batches"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") && !strings.Contains(line, `"@scalar/api-reference@`) { // it says its name
			t.Errorf("console: %s", line)
		}
	}
	asked := 0
	log, err := os.ReadFile(net)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"url":"((?:https?|wss?):[^"]*)"`).FindAllStringSubmatch(string(log), -1) {
		if asked++; !strings.HasPrefix(m[1], site.URL+"/") {
			t.Errorf("the browser asked for %s", m[1])
		}
	}
	if asked == 0 {
		t.Error("nothing was asked for: the browser kept no log")
	}
}

// The same file that `make vendor-web` compares is what is served, packed or
// not.
func TestDocsScript(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`SCALAR_SUM := ([0-9a-f]{64})`).FindSubmatch(makefile)
	if want == nil {
		t.Fatal("the Makefile names no digest")
	}
	f := newFarm(t)
	for _, packed := range []bool{false, true} {
		var body io.Reader
		a := f.do("GET", "/docs/scalar.js", "", header{"Accept-Encoding": map[bool]string{true: "gzip, br", false: "identity"}[packed]})
		if body = a.Body; packed {
			if a.Header().Get("Content-Encoding") != "gzip" {
				t.Error("it is not said to be packed")
			}
			if body, err = gzip.NewReader(a.Body); err != nil {
				t.Fatal(err)
			}
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, body); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != string(want[1]) {
			t.Errorf("packed %t: the digest is %s, want %s", packed, got, want[1])
		}
	}
}

func TestDocs(t *testing.T) {
	f := newFarm(t)
	a := f.do("GET", "/docs", "")
	policy := a.Header().Get("Content-Security-Policy")
	if a.Code != 200 || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "http") {
		t.Errorf("%d, policy %s", a.Code, policy)
	}
	a = f.do("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal(a.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" || doc.Paths["/v1/jobs"] == nil {
		t.Errorf("%v, %+v", err, doc.OpenAPI)
	}
	if got, want := len(doc.Paths), contract(t).Paths.Len(); got != want {
		t.Errorf("%d paths as JSON, %d as YAML", got, want)
	}
	if at := strings.Index(a.Body.String(), `"/v1/jobs"`); at < 0 || at > strings.Index(a.Body.String(), `"/admin/v1/accounts"`) {
		t.Error("the order of the paths is lost")
	}
}
