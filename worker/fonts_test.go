package worker_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/font"
)

// A worker says at its start what it has no fonts for, and what brings them.
func TestCheckFonts(t *testing.T) {
	for what, c := range map[string]struct {
		known func() (*font.Coverage, error)
		says  []string
		lacks string // scripts
	}{
		"none":    {func() (*font.Coverage, error) { return &font.Coverage{}, nil }, []string{"latin cjk arabic devanagari emoji", "fonts-dejavu-core fonts-noto-cjk fonts-noto-core fonts-noto-color-emoji"}, "latin cjk arabic devanagari emoji"},
		"no tool": {func() (*font.Coverage, error) { return nil, fmt.Errorf("wrapped: %w", font.ErrNoTool) }, []string{"apt-get install -y fontconfig"}, ""},
		"broken":  {func() (*font.Coverage, error) { return nil, errors.New("it is broken") }, []string{"it is broken"}, ""},
	} {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		if err := worker.CheckFonts(c.known, slog.New(slog.NewTextHandler(&log, nil)), reg); err != nil {
			t.Fatal(err)
		}
		for _, text := range c.says {
			if !strings.Contains(log.String(), text) || !strings.Contains(log.String(), "level=WARN") {
				t.Errorf("%s: logged %s, want %q", what, &log, text)
			}
		}
		families, err := reg.Gather()
		var lacks []string
		for _, f := range families {
			for _, m := range f.Metric {
				if m.GetGauge().GetValue() == 1 {
					lacks = append(lacks, m.Label[0].GetValue())
				}
			}
		}
		if want := strings.Fields(c.lacks); err != nil || len(lacks) != len(want) {
			t.Errorf("%s: %q are missing, want %q (%v)", what, lacks, want, err)
		}
	}
	var log bytes.Buffer
	if known, err := font.Known(); err == nil && len(known.Lacking()) == 0 {
		if err := worker.CheckFonts(font.Known, slog.New(slog.NewTextHandler(&log, nil)), nil); err != nil || log.Len() > 0 {
			t.Errorf("with all fonts: %v, %s", err, &log)
		}
	}
}
