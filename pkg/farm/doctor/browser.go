package doctor

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/font"
)

const (
	// oldChromium is the age of a browser from which on it lacks a known fix:
	// stable releases come every four weeks, with fixes in between.
	oldChromium = 60 * 24 * time.Hour
	// launchWithin bounds the start of a browser on a busy machine.
	launchWithin  = 60 * time.Second
	versionWithin = 15 * time.Second

	install = "apt-get install -y --no-install-recommends "
)

// chromium looks at the binary, and at what holds a browser that runs.
func chromium(ctx context.Context, cfg config.Render) []Finding {
	bin := cmp.Or(cfg.ChromiumBin, browser.DefaultBin)
	st, err := os.Stat(bin)
	if err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return []Finding{fail("chromium", binFix(cfg.ChromiumBin, ""), "there is no browser at %s", bin)}
	}
	within, cancel := context.WithTimeout(ctx, versionWithin)
	defer cancel()
	out, err := exec.CommandContext(within, bin, "--version").Output()
	if err != nil {
		return []Finding{fail("chromium", binFix(cfg.ChromiumBin, "--reinstall "), "%s does not say its version: %v", bin, err)}
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if !strings.Contains(version, "Chrom") { // Chromium, Google Chrome, HeadlessChrome
		return []Finding{fail("chromium", binFix(cfg.ChromiumBin, "--reinstall "), "%s is no Chromium; it says: %.100s", bin, version)}
	}
	days := int(time.Since(st.ModTime()) / (24 * time.Hour))
	found := ok("chromium", "%s, %d days old", version, days)
	if time.Since(st.ModTime()) > oldChromium {
		found = warn("chromium", "apt-get update && apt-get install -y --only-upgrade chromium-headless-shell",
			"%s is %d days old: pages of strangers want the newest", version, days)
	}
	return append([]Finding{found}, cell(ctx, browser.Config{Bin: cfg.ChromiumBin, FlagsOnly: cfg.IAcceptFlagOnlyIsolation})...)
}

// binFix is how to come to the right binary: which one is set, or is Debian's.
func binFix(set, how string) string {
	if set != "" {
		return "set TINTYPE_CHROMIUM_BIN to a chromium-headless-shell, or unset it for Debian's"
	}
	return install + how + "chromium-headless-shell"
}

// cell starts a browser as a worker does and looks at what holds it.
func cell(ctx context.Context, cfg browser.Config) []Finding {
	ctx, cancel := context.WithTimeoutCause(ctx, launchWithin, errors.New("the browser did not start in time"))
	defer cancel()
	if err := browser.Check(cfg); err != nil {
		return []Finding{fail("browser user", "see the text: it names the folder or the user", "%v", err)}
	}
	user := ok("browser user", "%s", userOf(os.Geteuid()))
	b, err := browser.Launch(ctx, cfg)
	if err != nil {
		if !errors.Is(err, browser.ErrIsolation) && !strings.Contains(err.Error(), "sandbox") { // Chromium's last words, where it has none
			return []Finding{user, fail("browser start", binFix(cfg.Bin, "--reinstall ")+", if the text names nothing else", "%v", err)}
		}
		return []Finding{user, fail("namespaces", namespaceFix("/proc/sys"), "a browser does not start: %v", err)}
	}
	defer b.Kill() //nolint:errcheck // what it leaves the next start removes
	namespaces := ok("namespaces", "browsers have a network of their own")
	if b.Isolation() != browser.ByKernel {
		namespaces = warn("namespaces", namespaceFix("/proc/sys"), "browsers are on this machine's network, held back by their own flags alone, as --i-accept-flag-only-isolation says")
	}
	sandbox := ok("sandbox", "seccomp, process and user namespaces around each renderer")
	if err := sandboxed(ctx, b); err != nil {
		sandbox = fail("sandbox", namespaceFix("/proc/sys"), "%v", err)
	}
	return []Finding{user, namespaces, sandbox}
}

// sandboxed opens a tab, so that there is a renderer to look at.
func sandboxed(ctx context.Context, b *browser.Browser) error {
	tab, err := b.NewTab(ctx, 1) // no page is opened: its proxy may be nobody
	if err != nil {
		return err
	}
	return errors.Join(b.CheckSandbox(), tab.Close(ctx))
}

func userOf(uid int) string {
	if uid == 0 {
		return "nobody: browsers of a worker that is root step down"
	}
	return "this one, number " + strconv.Itoa(uid)
}

// namespaceFix is the one setting of this kernel that keeps namespaces from
// who is not root, below the folder of its settings.
func namespaceFix(sys string) string {
	for _, s := range []struct{ path, name, not, to string }{
		{"/user/max_user_namespaces", "user.max_user_namespaces", "0", "10000"},
		{"/user/max_net_namespaces", "user.max_net_namespaces", "0", "10000"},
		{"/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", "0", "1"},
		{"/kernel/apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	} {
		if text, err := os.ReadFile(sys + s.path); err == nil && strings.TrimSpace(string(text)) == s.not {
			return "sysctl -w " + s.name + "=" + s.to
		}
	}
	return "in a container, start it with --security-opt seccomp=unconfined; docs/isolation.md has the other places"
}

// fonts looks at what pages can be shown with.
func fonts() Finding {
	known, err := font.Known()
	return fontsOf(known, err)
}

func fontsOf(known *font.Coverage, err error) Finding {
	if errors.Is(err, font.ErrNoTool) {
		return warn("fonts", install+"fontconfig", "nobody knows which there are: fc-list is not installed")
	}
	if err != nil {
		return warn("fonts", "fc-cache -f", "nobody knows which there are: %v", err)
	}
	var can []string
	lacking := known.Lacking()
	for _, s := range font.Scripts {
		can = append(can, s.Name)
	}
	if len(lacking) == 0 {
		return ok("fonts", "%s", strings.Join(can, ", "))
	}
	var not []string
	for _, s := range lacking {
		not = append(not, s.Name)
	}
	return warn("fonts", font.Install(lacking), "pages will show empty boxes for %s", strings.Join(not, ", "))
}
