package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// healthWithin bounds the question: whoever asks has a deadline of its own.
const healthWithin = 5 * time.Second

// Healthcheck asks the server whether it is ready. A server that answers and
// is not ready is an error like one that does not answer.
func Healthcheck(ctx context.Context, t Terminal, cfg config.Healthcheck) error {
	ctx, cancel := context.WithTimeoutCause(ctx, healthWithin, fmt.Errorf("no answer within %s", healthWithin))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(cfg.Server, "/")+"/readyz", nil)
	if err != nil {
		return &Usage{"--server: " + err.Error()}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", client.ErrUnreachable, err)
	}
	defer resp.Body.Close()
	var ready struct {
		Degraded []string `json:"degraded"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%w: %w", client.ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", cfg.Server, resp.Status)
	}
	if err := json.Unmarshal(body, &ready); err != nil {
		return fmt.Errorf("%s is not a tintype server: %w", cfg.Server, err)
	}
	if len(ready.Degraded) > 0 {
		fmt.Fprintf(t.Out, "ready, degraded: %s\n", strings.Join(ready.Degraded, ", "))
		return nil
	}
	fmt.Fprintln(t.Out, "ready")
	return nil
}
