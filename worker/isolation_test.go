package worker

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/browser"
)

// TestSeatRefusesWithoutNamespace: where the kernel gives no namespace a seat
// ends with the way out in words, instead of trying again.
func TestSeatRefusesWithoutNamespace(t *testing.T) {
	needtest.Browser(t)
	const inside = "TINTYPE_TEST_SEAT_WITHOUT_NAMESPACE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestSeatRefusesWithoutNamespace$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER, // whose limits are its own
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	guard, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSeat(SeatConfig{Guard: guard, Browser: browser.Config{Dir: t.TempDir() + "/b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, browser.ErrIsolation) || !strings.Contains(err.Error(), "--i-accept-flag-only-isolation") {
		t.Errorf("ended with %v", err)
	}
}

// TestFlagOnlyIsTold: a browser on the machine's network is counted, and its
// worker says so.
func TestFlagOnlyIsTold(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newSeatMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	counted := func() float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "tintype_browser_flag_only" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	s := &Seat{metrics: m, cfg: SeatConfig{Log: slog.New(slog.DiscardHandler)}}
	w := &Worker{seats: []*seat{{Renderer: s}}}
	if err := w.Isolated(); err != nil {
		t.Errorf("before a browser: %v", err)
	}
	s.setIsolation(browser.ByKernel)
	if err := w.Isolated(); err != nil || counted() != 0 {
		t.Errorf("held by the kernel: %v, %v", err, counted())
	}
	s.setIsolation(browser.ByFlags)
	if err := w.Isolated(); err == nil || counted() != 1 {
		t.Errorf("held by flags: %v, %v", err, counted())
	}
}
