package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// cancelWithin bounds the cancelling of a job whose user has gone.
	cancelWithin = 5 * time.Second
	// artifactWithin bounds the download.
	artifactWithin = 5 * time.Minute
)

// Failed is a job that ended without an artifact.
type Failed struct {
	Job    string
	Status string
	Code   string
	Detail string
	Retry  bool
}

func (e *Failed) Error() string {
	s := fmt.Sprintf("job %s %s", e.Job, e.Status)
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Retry {
		s += " (trying again may help)"
	}
	return s
}

// Shot makes a picture of a page, or what else is no PDF.
func Shot(ctx context.Context, t Terminal, cfg config.Shot) error {
	format, err := formatFor(cfg.Format, cfg.Output)
	if err != nil {
		return err
	}
	if cfg.Scale != nil {
		if cfg.DeviceScaleFactor != nil {
			return &Usage{"--scale and --device-scale-factor are the same; give one of the two"}
		}
		cfg.DeviceScaleFactor = cfg.Scale
	}
	req, err := request(t, cfg.Page, format, cfg.ShotOptions)
	if err != nil {
		return err
	}
	return render(ctx, t, cfg.Client, cfg.Data, req, output(cfg.Page, format))
}

// PDF prints a page.
func PDF(ctx context.Context, t Terminal, cfg config.PDF) error {
	if ext := filepath.Ext(cfg.Output); ext != "" && !strings.EqualFold(ext, ".pdf") {
		return &Usage{fmt.Sprintf("%s does not end in .pdf; pictures are taken with: tintype shot", cfg.Output)}
	}
	req, err := request(t, cfg.Page, "pdf", cfg.PDFOptions)
	if err != nil {
		return err
	}
	return render(ctx, t, cfg.Client, cfg.Data, req, output(cfg.Page, "pdf"))
}

// output is where the artifact goes.
func output(p config.Page, format string) string {
	if p.Output != "" {
		return p.Output
	}
	name := "page"
	if u, err := url.Parse(p.URL); err == nil && u.Hostname() != "" && !strings.ContainsAny(u.Hostname(), `/\`) {
		name = u.Hostname()
	}
	return name + job.Format(format).Ext()
}

func set[T any](v T) *T { return &v }

// optional leaves a zero value to the server's default.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// render submits, waits and writes. A context that ends takes the job with it.
func render(ctx context.Context, t Terminal, cfg config.Client, data string, req client.JobRequest, path string) error {
	key, err := secret(cfg.Key, data, "first.key", "key", "TINTYPE_KEY")
	if err != nil {
		return err
	}
	c, err := client.New(cfg.Server, key)
	if err != nil {
		return &Usage{"--server: " + err.Error()}
	}
	defer c.Close()
	line := newProgress(t)
	defer line.clear()
	started := time.Now()
	job, err := c.Submit(ctx, req)
	if err != nil {
		return err
	}
	line.show(job)
	id := job.Id
	job, err = c.Wait(ctx, id, line.show)
	if err != nil {
		cancelJob(ctx, c, id)
		return fmt.Errorf("job %s: %w", id, err)
	}
	line.clear()
	if job.Status != "succeeded" {
		if cfg.JSON {
			err = printJSON(t.Out, job)
		}
		return errors.Join(failure(job), err)
	}
	if err := download(ctx, c, t, id, path); err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, job)
	}
	words := describe(job)
	if job.Cached {
		words += ", cached,"
	}
	fmt.Fprintf(t.Err, "%s: %s in %s\n", path, words, time.Since(started).Round(time.Millisecond))
	return nil
}

// cancelJob spares the farm a render that nobody waits for any more.
func cancelJob(ctx context.Context, c *client.Client, id string) {
	if ctx.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer cancel()
	// The user has gone: there is nobody to tell that it did not work.
	_, _ = c.Cancel(ctx, id)
}

func failure(job *client.Job) error {
	f := &Failed{Job: job.Id, Status: string(job.Status)}
	if job.Error != nil {
		f.Code, f.Detail, f.Retry = job.Error.Code, job.Error.Detail, job.Error.Retryable
	}
	return f
}

func download(ctx context.Context, c *client.Client, t Terminal, id, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, artifactWithin, fmt.Errorf("the artifact was not there within %s", artifactWithin))
	defer cancel()
	body, err := c.Result(ctx, id)
	if err != nil {
		return err
	}
	defer body.Close()
	if path == "-" {
		if _, err := io.Copy(t.Out, body); err != nil {
			return fmt.Errorf("write the artifact: %w", err)
		}
		return nil
	}
	return WriteFile(path, body)
}

// WriteFile replaces path by what body holds, whole or not at all. What is
// not a regular file, such as a pipe, is written as it is.
func WriteFile(path string, body io.Reader) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return writeInto(path, body)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tintype-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = io.Copy(tmp, body)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}

func writeInto(path string, body io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// describe says in a few words what was made.
func describe(job *client.Job) string {
	r := job.Result
	if r == nil {
		return "done"
	}
	size := fmt.Sprintf("%d kB", (r.SizeBytes+999)/1000)
	switch {
	case r.Pages != nil && *r.Pages == 1:
		return "1 page, " + size
	case r.Pages != nil && *r.Pages > 1:
		return fmt.Sprintf("%d pages, %s", *r.Pages, size)
	case r.Width != nil && r.Height != nil:
		return fmt.Sprintf("%d × %d, %s", *r.Width, *r.Height, size)
	}
	return size
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
