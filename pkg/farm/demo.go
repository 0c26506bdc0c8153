package farm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/egress"
)

const (
	// readyWithin bounds the wait for a leader; on embedded back ends it leads
	// as soon as it has read its ledger.
	readyWithin = 2 * time.Minute
	// askEvery is how often a farm that starts is asked whether it is ready.
	askEvery = 100 * time.Millisecond
	// demoWithin bounds one picture of the demo, the first start of a browser
	// included.
	demoWithin = 2 * time.Minute
)

// ready waits until the farm says that it takes jobs.
func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("the farm was not ready within %s", readyWithin))
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	transport := &http.Transport{} // its own, so that no connection outlives the question
	defer transport.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
			if resp.Body.Close(); resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// demo renders the bundled page to a picture and a document, by the way that
// every client goes, and returns their paths.
func (p *Process) demo(ctx context.Context, f *folder, b banner) ([]string, error) {
	key, err := f.read(firstKey)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, errors.New("--demo renders for the account default, whose key this data folder does not hold")
	}
	dir, err := f.sub("demo")
	if err != nil {
		return nil, err
	}
	c, err := client.New(b.url, key)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var paths []string
	for _, format := range []string{"png", "pdf"} {
		path := filepath.Join(dir, "tintype."+format)
		if err := picture(ctx, c, format, path); err != nil {
			return nil, fmt.Errorf("render the bundled page to %s: %w", path, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func picture(ctx context.Context, c *client.Client, format, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoWithin, fmt.Errorf("no result within %s", demoWithin))
	defer cancel()
	url, kind := egress.DemoURL, client.Format(format)
	job, err := c.Submit(ctx, client.JobRequest{Url: &url, Format: &kind})
	if err != nil {
		return err
	}
	if job, err = c.Wait(ctx, job.Id, nil); err != nil {
		return err
	}
	if job.Status != "succeeded" {
		if job.Error == nil {
			return fmt.Errorf("the job ended as %s", job.Status)
		}
		return fmt.Errorf("%s: %s", job.Error.Code, job.Error.Detail)
	}
	body, err := c.Result(ctx, job.Id)
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	return errors.Join(err, file.Close())
}
