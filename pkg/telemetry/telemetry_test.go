package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

func TestLoggerWritesJSONOffATerminal(t *testing.T) {
	var out bytes.Buffer
	log, err := Logger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("not this")
	log.Info("job finished", "job", "job_1", "took", 1500*time.Millisecond)
	var line struct {
		Msg, Job string
		Took     float64
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if line.Msg != "job finished" || line.Job != "job_1" || line.Took != 1.5 {
		t.Errorf("got %+v", line)
	}
}

func TestLoggerRefusesAnUnknownLevel(t *testing.T) {
	if _, err := Logger(&bytes.Buffer{}, "loud"); err == nil {
		t.Error("no error")
	}
}

func TestShortTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	if got := shortTime(nil, slog.Time(slog.TimeKey, at)).Value.String(); got != "03:04:05.006" {
		t.Errorf("time = %q", got)
	}
	if got := shortTime(nil, slog.Duration("took", 1234567*time.Nanosecond)).Value.Duration(); got != 1230*time.Microsecond {
		t.Errorf("took = %s", got)
	}
	if got := shortTime([]string{"page"}, slog.Time(slog.TimeKey, at)).Value.Kind(); got != slog.KindTime {
		t.Errorf("a time in a group became %s", got)
	}
}

func TestRegistryHasTheProcess(t *testing.T) {
	families, err := Registry("v1").Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
	}
	for _, want := range []string{"tintype_build_info", "go_goroutines", "process_resident_memory_bytes"} {
		if !have[want] {
			t.Errorf("%s is missing", want)
		}
	}
}
