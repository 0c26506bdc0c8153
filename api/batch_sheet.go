package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/api/sheet"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// maxSheet is how many lines a contact sheet may have.
	maxSheet = 5000
	// sheetAhead is how many artifacts of a sheet are fetched at once, and
	// maxThumbs how many pictures are decoded at once, of all sheets: each is up
	// to a hundred megabytes, and keeps a core busy.
	sheetAhead = 4
	maxThumbs  = 2
	// sheetSign is how often somebody who waits for a sheet gets a byte.
	sheetSign = 5 * time.Second
)

// sendSheet answers with the contact sheet of a batch.
func (s *Server) sendSheet(w http.ResponseWriter, r *http.Request, c *call, b *batch.Batch) error {
	if b.Total > maxSheet {
		return invalid(fault.Field{Pointer: "format", Detail: fmt.Sprintf("html takes batches of up to %d lines, and this one has %d; take zip", maxSheet, b.Total)})
	}
	h := w.Header()
	begin := func() {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": b.ID + ".html"}))
		h.Set("Content-Security-Policy", sheet.Policy())
	}
	if r.Method == http.MethodHead {
		begin()
		w.WriteHeader(http.StatusOK)
		return nil
	}
	release, err := s.packers.take(c.account.ID)
	if err != nil {
		return err
	}
	defer release()
	o, err := s.outcomes(r.Context(), b)
	if err != nil {
		return err
	}
	defer o.close()
	made := &sheet.Sheet{Title: b.ID, Status: string(b.State), Made: time.Now().UTC()}
	if b.CustomID != "" {
		made.Title = b.CustomID
	}
	var jobs []*job.Job // of the cells
	for {
		out, err := o.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		cell, j := s.cellOf(out)
		made.Cells, jobs = append(made.Cells, cell), append(jobs, j)
	}
	to := &gathered{to: steady{w}, begin: begin}
	if err := sheet.Begin(to, made.Title); err != nil {
		return err
	}
	if err := s.thumbnails(r.Context(), w, to, c, made.Cells, jobs); err != nil {
		return err
	}
	if err := sheet.Write(to, made); err != nil {
		return err
	}
	return to.flush()
}

// cellOf is a line as the sheet shows it, and its job if there is a picture to
// be made of.
func (s *Server) cellOf(out *outcome) (sheet.Cell, *job.Job) {
	var spec struct {
		URL string `json:"url"`
	}
	_ = json.Unmarshal(out.spec, &spec) // a line without one shows none
	cell := sheet.Cell{Line: out.line, CustomID: out.customID, Status: string(out.state), URL: spec.URL}
	r := out.artifact()
	switch {
	case out.failure != nil:
		cell.Code, cell.Detail = out.failure.Code, out.failure.Detail
		return cell, nil
	case r == nil:
		return cell, nil
	}
	cell.Result, cell.About = selfLink(out.job, s.cfg.PublicURL)+"/result", about(r)
	switch {
	case !strings.HasPrefix(r.ContentType, "image/"):
		cell.Why = strings.ToUpper(string(job.FormatOf(r.ContentType)))
		return cell, nil
	case r.SizeBytes > wholeArtifact:
		cell.Why = "too large for a thumbnail"
		return cell, nil
	}
	return cell, out.job
}

// about is what there is to say of an artifact.
func about(r *job.Result) string {
	size := fmt.Sprintf("%d kB", (r.SizeBytes+1023)/1024)
	switch {
	case r.Pages == 1:
		return "1 page, " + size
	case r.Pages > 0:
		return fmt.Sprintf("%d pages, %s", r.Pages, size)
	case r.Width > 0:
		return fmt.Sprintf("%d × %d, %s", r.Width, r.Height, size)
	}
	return size
}

// thumbnails makes the pictures of cells. Meanwhile the client gets a comment
// now and then, so that nothing between here and there takes the connection for
// dead.
func (s *Server) thumbnails(ctx context.Context, w http.ResponseWriter, to *gathered, c *call, cells []sheet.Cell, jobs []*job.Job) error {
	var mu sync.Mutex // of to and signed
	signed, done := time.Now(), 0
	asked := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sheetAhead)
	for i, j := range jobs {
		if j == nil {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			data, err := s.artifact(ctx, j)
			if fault.Is(err, fault.Gone) {
				f := fault.From(err)
				cells[i].Code, cells[i].Detail, cells[i].Result = f.Code, f.Detail, ""
				if f.Code == "" {
					cells[i].Code = faceOf(f.Kind).code
				}
				if f.Code == codeLost {
					s.giveBack(c, j.ID)
				}
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.thumbs.Acquire(ctx, 1); err != nil {
				return err
			}
			cells[i].Thumb, err = sheet.Thumbnail(data)
			s.thumbs.Release(1)
			if err != nil {
				cells[i].Why = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; time.Since(signed) < sheetSign {
				return nil
			}
			signed = time.Now()
			if _, err := fmt.Fprintf(to, "<!-- %d -->\n", done); err != nil {
				return err
			}
			if err := to.flush(); err != nil {
				return err
			}
			_ = http.NewResponseController(w).Flush() // a writer that cannot has nothing waiting
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if asked.Err() != nil {
		return fault.Wrap(fault.Canceled, context.Cause(asked), "the client went away")
	}
	return nil
}
