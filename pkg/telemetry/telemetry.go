// Package telemetry is what a process tells its operator: the log and the
// registry of metrics.
//
// It promises text on a terminal and JSON everywhere else, where durations are
// seconds; and a registry of its own that holds the process's and Go's figures
// from the start. Messages are constant, lower-case texts; what varies goes
// under the keys job account tier attempt worker delivery trace kind took err.
// A key, page content, a URL's credentials and its query are never logged:
// that is the promise of whoever logs.
//
// Serving the metrics is left to the API tier.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/term"
)

// Logger writes to w from the least level on: debug, info, warn or error.
func Logger(w io.Writer, level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	if Terminal(w) {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: shortTime})), nil
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: inSeconds})), nil
}

// Terminal reports whether somebody watches w.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// shortTime leaves out the date and the zone: whoever watches knows them.
func shortTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
		return slog.String(a.Key, a.Value.Time().Format("15:04:05.000"))
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.Duration(a.Key, a.Value.Duration().Round(10*time.Microsecond))
	}
	return a
}

// inSeconds spares whoever reads the JSON a guess at the unit.
func inSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key, a.Value.Duration().Seconds())
	}
	return a
}

// Registry makes a registry with the figures of the process and of Go, and
// with the gauge tintype_build_info, always 1, that names the release.
func Registry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "tintype_build_info",
		Help:        "Always 1; the labels name the release and the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
