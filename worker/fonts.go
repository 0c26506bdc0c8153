package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/worker/font"
)

// CheckFonts finds out which scripts this machine's browsers can show, as
// known (font.Known) tells, and warns of those that would be empty boxes. It
// is no error that one is: pages say in their evidence how much is missing.
func CheckFonts(known func() (*font.Coverage, error), log *slog.Logger, reg prometheus.Registerer) error {
	missing := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tintype_worker_fonts_missing", Help: "1 for a script that no font of this machine can show, so that pages have empty boxes there.",
	}, []string{"script"})
	if reg != nil {
		if err := reg.Register(missing); err != nil {
			return fmt.Errorf("fonts: %w", err)
		}
	}
	coverage, err := known()
	if err != nil {
		way := "see the error"
		if errors.Is(err, font.ErrNoTool) {
			way = "apt-get install -y fontconfig"
		}
		log.Warn("nobody knows which scripts this machine has fonts for", "err", err, "fix", way)
		return nil
	}
	for _, s := range font.Scripts {
		missing.WithLabelValues(s.Name).Set(0)
	}
	lacking := coverage.Lacking()
	if len(lacking) == 0 {
		return nil
	}
	names := make([]string, len(lacking))
	for i, s := range lacking {
		names[i] = s.Name
		missing.WithLabelValues(s.Name).Set(1)
	}
	log.Warn("pages will show empty boxes: this machine has no font for some scripts", "scripts", strings.Join(names, " "), "fix", font.Install(lacking))
	return nil
}
