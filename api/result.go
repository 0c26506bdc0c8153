package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
)

const (
	// wholeArtifact is the size up to which an artifact is read and compared
	// with its digest before its first byte is sent. Of a larger one the
	// digest is known at its end: a wrong one breaks the connection off.
	wholeArtifact = 16 << 20
	// slowest is the pace at which a client must at least read an artifact that
	// is kept in memory for it, in bytes a second, beyond answerSlack.
	slowest = 256 << 10
	// redirectFor is how long a signed URL of a redirect is good.
	redirectFor = 5 * time.Minute
	// maxFileName bounds the name of a download, in bytes.
	maxFileName = 200
)

// getResult is GET and HEAD /v1/jobs/{id}/result.
func (s *Server) getResult(w http.ResponseWriter, r *http.Request, c *call) error {
	j, err := s.resultOf(r, c)
	if err != nil {
		return err
	}
	timing(w.Header(), j)
	if r.Method == http.MethodGet {
		if err := s.download(r.Context(), c, j.Result.SizeBytes); err != nil {
			return err
		}
	}
	if s.cfg.RedirectResults && r.Method == http.MethodGet {
		if err := s.goneWith(r.Context(), j); err != nil {
			return err // the store would tell the client of a missing key
		}
		to, err := s.deps.Bucket.PresignGet(j.Result.Object, redirectFor, disposition(j))
		if err != nil {
			return err
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		return nil
	}
	return s.sendArtifact(w, r, j)
}

// deleteResult is DELETE /v1/jobs/{id}/result. The archive's word goes first:
// from then on the artifact is gone, whatever the bucket does.
func (s *Server) deleteResult(w http.ResponseWriter, r *http.Request, c *call) error {
	j, err := s.resultOf(r, c)
	if err != nil && !fault.Is(err, fault.Gone) {
		return err
	}
	if err == nil {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), storeWithin+bucketWithin, errors.New("the deletion took too long"))
		defer cancel()
		key, err := s.deps.Store.DropResult(ctx, c.account.ID, j.ID)
		switch {
		case fault.Is(err, fault.NotFound):
			return &fault.Error{Kind: fault.Unavailable, Detail: "the job has ended a moment ago and is being filed; try again"}
		case err != nil:
			return unavailable(err, "the archive does not answer at the moment; try again")
		}
		if owner(j) != j.ID { // another job's stays: this one alone has none any more
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err := s.deps.Bucket.Delete(ctx, key); err != nil {
			s.log.Warn("a deleted artifact stays in the bucket", "job", j.ID, "err", err)
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// resultOf finds the succeeded job of the path, or says why it has no
// artifact. The archive is asked first: it alone knows of deletions, and a
// job that it has does not change.
func (s *Server) resultOf(r *http.Request, c *call) (*job.Job, error) {
	id, err := jobID(r)
	if err != nil {
		return nil, err
	}
	j, err := s.archived(r.Context(), id)
	if err != nil {
		j, err = s.find(r.Context(), id, c.account.ID, 0)
		switch {
		case fault.Is(err, fault.NotFound) && time.Since(id.Time()) > c.plan.Retention:
			return nil, fault.New(fault.Gone, "there is no such job; if there was one, its retention has ended")
		case err != nil:
			return nil, err
		}
	}
	switch {
	case j.Account != c.account.ID:
		return nil, noJob()
	case retained(j, time.Now()) != nil:
		return nil, retained(j, time.Now())
	case !j.State.Terminal():
		return nil, &fault.Error{
			Kind: fault.Conflict, Code: "not_finished", Detail: "the job is " + string(j.State) + "; wait for its end",
			RetryAfter: time.Second, Extra: map[string]any{"job_status": j.State},
		}
	case j.Result == nil:
		f := fault.New(fault.Conflict, "the job ended as %s and has no artifact", j.State)
		f.Extra = map[string]any{"job_status": j.State, "error": presentFailure(j.Failure)}
		return nil, f
	case j.Result.Gone:
		return nil, fault.New(fault.Gone, "the artifact was deleted")
	}
	return j, nil
}

func artifactLost(j *job.Job, err error) *fault.Error {
	f := fault.Wrap(fault.Gone, err, "the stored bytes are not the ones that were rendered; submit the job again")
	f.Code, f.Extra = codeLost, map[string]any{"job_id": j.ID}
	return f
}

// sendArtifact answers with the bytes of a succeeded job, or with what is
// wrong with them.
func (s *Server) sendArtifact(w http.ResponseWriter, r *http.Request, j *job.Job) error {
	res := j.Result
	h := w.Header()
	etag := `"` + res.SHA256 + `"`
	head := func() {
		h.Set("Content-Type", res.ContentType)
		h.Set("ETag", etag)
		h.Set("Content-Disposition", disposition(j))
		h.Set("Content-Security-Policy", "sandbox") // a PDF or picture from a stranger's page runs nothing here
		h.Set("Cache-Control", "private, no-cache")
	}
	if r.Method == http.MethodHead {
		return s.headArtifact(w, r, j, head)
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), bucketWithin, errors.New("the object store did not answer in time"))
	defer cancel()
	buffered := res.SizeBytes <= wholeArtifact
	if buffered {
		release, err := s.buffers.acquire(ctx, j.Account, res.SizeBytes)
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "too many downloads at once; try again")
		}
		defer release()
	} else {
		ctx = r.Context() // as long as the client goes on reading
	}
	body, info, err := s.deps.Bucket.Get(ctx, res.Object)
	if err != nil {
		return s.missing(r.Context(), j, err)
	}
	defer body.Close()
	if info.SizeBytes != res.SizeBytes {
		return artifactLost(j, fmt.Errorf("%d bytes are stored, %d were recorded", info.SizeBytes, res.SizeBytes))
	}
	if !buffered {
		head()
		return s.stream(w, j, body)
	}
	data := make([]byte, res.SizeBytes)
	if _, err := io.ReadFull(body, data); err != nil {
		return lostOrDown(j, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != res.SHA256 {
		return artifactLost(j, fmt.Errorf("digest is %x, %s was recorded", sum, res.SHA256))
	}
	head()
	// One deadline for all of it: with one for each write a client that reads
	// drop by drop would keep the buffer.
	linger(w, time.Duration(res.SizeBytes)*time.Second/slowest)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return nil
}

func (s *Server) headArtifact(w http.ResponseWriter, r *http.Request, j *job.Job, head func()) error {
	info, err := s.deps.Bucket.Stat(r.Context(), j.Result.Object)
	if err != nil {
		return s.missing(r.Context(), j, err)
	}
	if info.SizeBytes != j.Result.SizeBytes {
		return artifactLost(j, fmt.Errorf("%d bytes are stored, %d were recorded", info.SizeBytes, j.Result.SizeBytes))
	}
	head()
	if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Length", strconv.FormatInt(info.SizeBytes, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// stream sends a large artifact and breaks off if its digest is wrong: a
// client sees less than Content-Length and takes it for no whole answer.
func (s *Server) stream(w http.ResponseWriter, j *job.Job, body io.Reader) error {
	h := w.Header()
	h.Set("Content-Length", strconv.FormatInt(j.Result.SizeBytes, 10))
	w.WriteHeader(http.StatusOK)
	sum := sha256.New()
	// The last piece is held back until the digest is known.
	tail := make([]byte, 0, 64<<10)
	piece := make([]byte, cap(tail))
	out := steady{w}
	for {
		n, err := io.ReadFull(body, piece)
		sum.Write(piece[:n])
		if n > 0 {
			if _, err := out.Write(tail); err != nil {
				return fault.Wrap(fault.Canceled, err, "the client went away")
			}
			tail = append(tail[:0], piece[:n]...)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return lostOrDown(j, err)
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != j.Result.SHA256 {
		return artifactLost(j, errors.New("the digest is not the recorded one"))
	}
	if _, err := out.Write(tail); err != nil {
		return fault.Wrap(fault.Canceled, err, "the client went away")
	}
	return nil
}

// missing is why an artifact cannot be opened.
func (s *Server) missing(ctx context.Context, j *job.Job, err error) error {
	if errors.Is(err, object.ErrNotFound) {
		if gone := s.goneWith(ctx, j); gone != nil {
			return gone
		}
	}
	return lostOrDown(j, err)
}

// lostOrDown tells an object that is not there from a store that does not
// answer.
func lostOrDown(j *job.Job, err error) error {
	if errors.Is(err, object.ErrNotFound) || errors.Is(err, io.ErrUnexpectedEOF) {
		return artifactLost(j, err)
	}
	return fault.Wrap(fault.Unavailable, err, "the object store does not answer at the moment; try again")
}

// disposition names the download after the client's own id, or after the job
// (RFC 6266): an ASCII name, and the real one beside it where they differ.
func disposition(j *job.Job) string {
	ext, way := ".bin", "inline"
	if f := job.FormatOf(j.Result.ContentType); f != "" {
		ext = f.Ext()
		if f == job.HTML || f == job.MHTML { // a stranger's markup is not for this host to show
			way = "attachment"
		}
	}
	name := j.CustomID
	if name == "" {
		name = string(j.ID)
	}
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError || strings.ContainsRune(`/\:*?"<>|`, c) {
			return '_' // no path, and nothing that some file system refuses
		}
		return c
	}, name)
	for len(name) > maxFileName-len(ext) {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	name += ext
	// The library writes an ASCII name as it is and any other as filename*.
	return mime.FormatMediaType(way, map[string]string{"filename": name})
}
