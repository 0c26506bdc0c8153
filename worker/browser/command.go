package browser

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HeapMB is the size in MB that one page's JavaScript heap may have.
const HeapMB = 512

// args is the browser's whole command line. Debian's wrappers in /usr/bin are
// shell scripts that add flags of their own; the binary is started directly.
func args(dir string) []string {
	a := []string{
		"--headless",
		"--remote-debugging-pipe", // no port that a page could reach
		"--user-data-dir=" + filepath.Join(dir, "profile"),
		"--no-first-run", "--no-default-browser-check",

		// The way out is the job's proxy, which each context names for itself;
		// the default context goes nowhere. Names are resolved by the proxy
		// alone, and loopback and link-local are not excepted.
		"--proxy-server=http://127.0.0.1:1",
		"--proxy-bypass-list=<-loopback>",
		"--host-resolver-rules=MAP " + proxyName + " 127.0.0.1 , MAP * ~NOTFOUND",
		// WebRTC would send UDP past any proxy. Each binary obeys only one of
		// these two.
		"--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
		"--webrtc-ip-handling-policy=disable_non_proxied_udp",
		"--disable-quic", "--dns-prefetch-disable",
		"--disable-background-networking", "--disable-component-update", "--disable-domain-reliability",
		"--no-pings", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--disable-breakpad",
		"--metrics-recording-only", "--password-store=basic",

		"--block-new-web-contents", // a hundred popups cost seconds, and once the browser
		"--js-flags=--max-old-space-size=" + strconv.Itoa(HeapMB),
		"--disable-gpu", "--mute-audio", "--hide-scrollbars", "--font-render-hinting=none",
		"--window-size=1280,1024",
		// A mouse, which headless Chromium does not see on a machine without one.
		"--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
		"--accept-lang=en-US", // else no request has an Accept-Language, and some servers send none such away
		// A seat shows one page: nothing is ever in the background, and a page
		// that hangs is ended by its deadline and not by a monitor.
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
		"--disable-renderer-backgrounding", "--disable-hang-monitor",
	}
	if sharedMemoryShort() {
		a = append(a, "--disable-dev-shm-usage")
	}
	return append(a, "about:blank")
}

// Unproxied is the command line of a browser whose files are below dir, less
// the flags that lead it through a job's proxy: for measurements of the same
// browser with nothing around it. No page of a stranger is for such a browser.
func Unproxied(dir string) []string {
	return slices.DeleteFunc(args(dir), func(f string) bool {
		return strings.HasPrefix(f, "--proxy-") || strings.HasPrefix(f, "--host-resolver-rules=")
	})
}

// sharedMemoryShort reports whether /dev/shm is missing or too small for the
// bitmaps of large pages, as in containers, where it has 64 MB.
func sharedMemoryShort() bool {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil {
		return true
	}
	return st.Bavail*uint64(st.Bsize) < 512<<20
}

// environment is all that the browser's processes see: nothing of ours.
func environment(dir string) []string {
	return []string{
		"PATH=/usr/bin:/bin",
		"LANG=C.UTF-8",
		"TZ=UTC",
		"DBUS_SYSTEM_BUS_ADDRESS=disabled:", // it would look for Bluetooth
		"DBUS_SESSION_BUS_ADDRESS=disabled:",
		"HOME=" + dir,
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
	}
}
