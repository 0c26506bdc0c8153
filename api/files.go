package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// fileExpires is how long an uploaded file is there.
const fileExpires = 7 * 24 * time.Hour

// fileStore is what the archive keeps of uploaded files.
type fileStore interface {
	InsertFile(ctx context.Context, f *batch.File, expiresIn time.Duration) error
	File(ctx context.Context, accountID, id string) (*batch.File, error)
	Files(ctx context.Context, accountID, before string, limit int) ([]*batch.File, error)
	DeleteFile(ctx context.Context, accountID, id string) (object string, err error)
}

// createFile is POST /v1/files.
func (s *Server) createFile(w http.ResponseWriter, r *http.Request, c *call) error {
	file := &batch.File{ID: batch.NewFileID(), Account: c.account.ID}
	file.Object = fmt.Sprintf("f/%s/%s", c.account.ID, file.ID)
	file.Name, _ = c.query.members["name"].(string)
	keep := func(a *arriving, size int64) error {
		err := s.store(r.Context(), c, file.Object, a, size)
		up := a.upload(file.Object)
		file.SizeBytes, file.SHA256 = up.size, up.sum
		return err
	}
	media, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what it says is the file's own affair
	var err error
	if media == "multipart/form-data" {
		err = s.fileOfForm(w, r, params["boundary"], file, keep)
	} else {
		var a *arriving
		if a, err = arrive(w, r); err == nil {
			err = keep(a, r.ContentLength)
		}
	}
	if err != nil {
		return err
	}
	linger(w, storeWithin)
	ctx, cancel := s.detached(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	if err := s.deps.Store.InsertFile(ctx, file, fileExpires); err != nil {
		if f := fault.From(err); f.Kind != fault.Internal { // of that nobody knows how it went
			s.discard(file.Object)
		}
		return unavailable(err, "the archive does not answer at the moment; try again")
	}
	w.Header().Set("Location", s.cfg.PublicURL+"/v1/files/"+file.ID)
	return writeJSON(w, http.StatusCreated, presentFile(file))
}

// fileOfForm reads the file of a form.
func (s *Server) fileOfForm(w http.ResponseWriter, r *http.Request, boundary string, file *batch.File, keep func(*arriving, int64) error) (err error) {
	body, err := patientBody(w, r, lines.MaxBytes+formOverhead)
	if err != nil {
		return err
	}
	stored := false
	defer func() {
		if err != nil && stored {
			s.discard(file.Object)
		}
	}()
	f, err := readForm(body, boundary, func(f *form, a *arriving) error {
		if file.Name == "" {
			file.Name = f.name
		}
		err := keep(a, -1)
		stored = err == nil
		return err
	})
	if err != nil {
		return err
	}
	for name := range f.fields {
		return invalid(fault.Field{Pointer: name, Detail: "is not known; the form has a file alone"})
	}
	return nil
}

// listFiles is GET /v1/files.
func (s *Server) listFiles(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	if after != "" && !strings.HasPrefix(after, "file_") {
		return badCursor()
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	files, err := s.deps.Store.Files(ctx, c.account.ID, after, limit+1)
	if err != nil {
		return archiveDown(err)
	}
	out := FileList{Data: []File{}, HasMore: len(files) > limit}
	if out.HasMore {
		files = files[:limit]
		out.NextCursor = &files[limit-1].ID
	}
	for _, f := range files {
		out.Data = append(out.Data, presentFile(f))
	}
	return writeJSON(w, http.StatusOK, out)
}

// getFile is GET /v1/files/{id}.
func (s *Server) getFile(w http.ResponseWriter, r *http.Request, c *call) error {
	f, err := s.file(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, presentFile(f))
}

// deleteFile is DELETE /v1/files/{id}.
func (s *Server) deleteFile(w http.ResponseWriter, r *http.Request, c *call) error {
	id := r.PathValue("id")
	if !isFileID(id) {
		return noFile()
	}
	ctx, cancel := s.detached(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	object, err := s.deps.Store.DeleteFile(ctx, c.account.ID, id)
	if err != nil {
		return archiveDown(err)
	}
	s.discard(object) // what stays behind is the janitor's
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// file finds a file of the caller's.
func (s *Server) file(ctx context.Context, c *call, id string) (*batch.File, error) {
	if !isFileID(id) {
		return nil, noFile()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	f, err := s.deps.Store.File(ctx, c.account.ID, id)
	if err != nil {
		return nil, archiveDown(err)
	}
	return f, nil
}

// isFileID reports whether a text may be the id of a file: nothing else goes to
// the archive.
func isFileID(text string) bool {
	rest, ok := strings.CutPrefix(text, "file_")
	return ok && len(rest) == 26 && strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

func noFile() error { return fault.New(fault.NotFound, "there is no such file") }

func presentFile(f *batch.File) File {
	return File{
		Id: f.ID, Name: orNull(f.Name), SizeBytes: f.SizeBytes, Sha256: hex.EncodeToString(f.SHA256),
		CreatedAt: Time{f.CreatedAt}, ExpiresAt: Time{f.ExpiresAt},
	}
}
