package command

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/config"
)

func TestSignLink(t *testing.T) {
	var sc screen
	cfg := config.KeySign{
		Target: config.Target{Server: "shots.example.com/"}, URL: "https://example.com/?a=b", KeyID: "abcdefghijkl", Secret: "tt_sign_x",
		Expires: time.Hour, PDF: true, Options: []string{"width=800"},
	}
	if err := SignLink(sc.terminal(false), cfg); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(strings.TrimSpace(sc.out.String()))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Scheme+u.Host+u.Path != "httpshots.example.com/v1/pdf" || q.Get("url") != cfg.URL || q.Get("width") != "800" || q.Get("key_id") != cfg.KeyID || len(q.Get("sig")) != 64 {
		t.Errorf("%s", u)
	}
	for name, change := range map[string]func(*config.KeySign){
		"no secret":       func(c *config.KeySign) { c.Secret = "" },
		"no value":        func(c *config.KeySign) { c.Options = []string{"width"} },
		"an option twice": func(c *config.KeySign) { c.Options = []string{"width=1", "width=2"} },
		"the URL twice":   func(c *config.KeySign) { c.Options = []string{"url=x"} },
	} {
		bad := cfg
		change(&bad)
		if err := SignLink(sc.terminal(false), bad); ExitCode(err) != ExitUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
