package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/proto"
)

// bare is rod's plain path on the same browser binary: what one would write
// without a farm. The browser has its sandbox on and runs as nobody when this
// process is root, as the farm's does.
type bare struct {
	cmd     *exec.Cmd
	dir     string
	browser *rod.Browser
}

func startBare(ctx context.Context, bin string) (*bare, error) {
	dir, err := os.MkdirTemp("", "tintype-bare-")
	if err != nil {
		return nil, err
	}
	b := &bare{dir: dir}
	// The port is on loopback and open for as long as the measurement runs; the
	// farm itself uses a pipe.
	b.cmd = exec.Command(bin, "--headless", "--remote-debugging-port=0", "--user-data-dir="+dir, "--no-first-run",
		"--disable-gpu", "--hide-scrollbars", "--mute-audio", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-extensions", "--disable-breakpad", "--font-render-hinting=none", "about:blank")
	b.cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		if err := b.lowerTo("nobody"); err != nil {
			return nil, err
		}
	}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	url := ""
	for lines := bufio.NewScanner(stderr); url == "" && lines.Scan(); {
		if _, after, found := strings.Cut(lines.Text(), "DevTools listening on "); found {
			url = after
		}
	}
	if url == "" {
		b.stop()
		return nil, errors.New("the browser did not say where it listens")
	}
	b.browser = rod.New().ControlURL(url).Context(ctx)
	if err := b.browser.Connect(); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *bare) lowerTo(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	b.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(b.dir, uid, gid)
}

// render is one page in a fresh context.
func (b *bare) render(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	fresh, err := b.browser.Context(ctx).Incognito()
	if err != nil {
		return err
	}
	defer fresh.Close() //nolint:errcheck // disposes the context; the browser is ended after the run in any case
	p, err := fresh.Page(proto.TargetCreateTarget{})
	if err != nil {
		return err
	}
	if err := p.SetViewport(&proto.EmulationSetDeviceMetricsOverride{Width: pageWidth, Height: pageHeight, DeviceScaleFactor: 1}); err != nil {
		return err
	}
	loaded := p.WaitNavigation(proto.PageLifecycleEventNameLoad)
	if err := p.Navigate(url); err != nil {
		return err
	}
	loaded()
	picture, err := p.Screenshot(false, &proto.PageCaptureScreenshot{Format: proto.PageCaptureScreenshotFormatPng, OptimizeForSpeed: true})
	if err != nil {
		return err
	}
	return isPicture(picture)
}

// stop ends the browser with all of its children.
func (b *bare) stop() {
	if b.cmd.Process != nil {
		syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have gone already
		b.cmd.Wait()                                      //nolint:errcheck // it was killed
	}
	os.RemoveAll(b.dir)
}
