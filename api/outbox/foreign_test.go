package outbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// The standard's own library for Node, at the version that is verified with.
const foreignPackage = "standardwebhooks@1.1.1"

// fetchForeign installs it once into the user's cache, and returns where.
func fetchForeign(t *testing.T) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir() // no home
	}
	cache = filepath.Join(cache, "tintype-tests")
	dir := filepath.Join(cache, strings.ReplaceAll(foreignPackage, "@", "-"))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	own, err := os.MkdirTemp(cache, "fetch") // another test may fetch it too
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(own)
	out, err := exec.CommandContext(t.Context(), "npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", own, foreignPackage).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("npm install %s: %w %s", foreignPackage, err, out)
	}
	if err := os.Rename(own, dir); err != nil {
		if _, err := os.Stat(dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// verifyJS prints, for each message, whether it is accepted.
const verifyJS = `
const { Webhook } = require("standardwebhooks");
const { secret, messages } = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(messages.map(({ headers, body }) => {
  try { return new Webhook(secret).verify(body, headers).type; } catch (e) { return "refused: " + e.message; }
})));`

// What arrives is accepted by the standard's library for Node, and what was
// changed on the way is not.
func TestForeignLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("it fetches a package of npm")
	}
	dir, err := fetchForeign(t)
	if err != nil {
		needtest.Lacks(t, "the library for Node cannot be fetched: %v", err)
	}
	f := newFarm(t)
	r := f.receives(ok)
	f.endpoint("we_a", r.url)
	f.sends("one")
	j := failed("acc_a")
	j.CustomID, j.Webhook = "Zürich 🚀 <&>", &job.Webhook{URL: r.url}
	f.ends(j)

	type message struct {
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	var in struct {
		Secret   string    `json:"secret"`
		Messages []message `json:"messages"`
	}
	in.Secret = secretText
	for range 2 { // to the endpoint and to the job's own URL
		g := f.next(r)
		m := message{map[string]string{}, string(g.body)}
		for name := range g.header {
			m.Headers[strings.ToLower(name)] = g.header.Get(name)
		}
		in.Messages = append(in.Messages, m)
	}
	bent, renamed := in.Messages[0], in.Messages[1]
	bent.Body = strings.Replace(bent.Body, "job.failed", "job.succeeded", 1)
	renamed.Headers = maps.Clone(renamed.Headers)
	renamed.Headers["webhook-id"] = in.Messages[0].Headers["webhook-id"]
	in.Messages = append(in.Messages, bent, renamed)
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "-e", verifyJS)
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, strings.NewReader(string(text)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil || len(got) != 4 || got[0] != "job.failed" || got[1] != "job.failed" || !strings.HasPrefix(got[2], "refused") || !strings.HasPrefix(got[3], "refused") {
		t.Errorf("%s, %v", out, err)
	}
}
