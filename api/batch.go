package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// batchExpires is how long a batch may take.
const batchExpires = 7 * 24 * time.Hour

// batchStore is what the archive keeps of batches. An id or a key that is taken
// is a Conflict.
type batchStore interface {
	InsertBatch(ctx context.Context, b *batch.Batch, expiresIn time.Duration, keyHash, fingerprint []byte) error
	Batch(ctx context.Context, accountID, id string) (*batch.Batch, error)
	BatchByKey(ctx context.Context, accountID string, keyHash []byte) (b *batch.Batch, fingerprint []byte, err error)
	Batches(ctx context.Context, accountID string, state batch.State, before string, limit int) ([]*batch.Batch, error)
	BatchPace(ctx context.Context, b *batch.Batch, after time.Time) (ends int64, since time.Time, err error)
	// These change nothing, and say so, where the batch is in no state for it.
	CancelBatch(ctx context.Context, accountID, id string) (b *batch.Batch, changed bool, err error)
	PauseBatch(ctx context.Context, accountID, id string) (b *batch.Batch, changed bool, err error)
	ResumeBatch(ctx context.Context, accountID, id string) (b *batch.Batch, changed bool, err error)
	RetryBatch(ctx context.Context, accountID, id string, expiresIn time.Duration) (b *batch.Batch, changed bool, err error)
}

// batchMedia are the media types of raw inputs.
var batchMedia = map[string]batch.Format{
	"application/x-ndjson": batch.JSONL, "application/ndjson": batch.JSONL, "application/jsonl": batch.JSONL,
	"application/x-jsonlines": batch.JSONL, "application/json-lines": batch.JSONL,
	"text/csv": batch.CSV, "text/plain": batch.Text,
}

// createBatch is POST /v1/batches. The input comes as the body, as a file of a
// form, or was uploaded before.
func (s *Server) createBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = "" // told where a format is missing
	}
	in := &intake{w: w, r: r, c: c, id: batch.NewID()}
	if in.key, err = s.batchKey(r, c); err != nil {
		return err
	}
	switch media {
	case "application/json":
		return s.batchOfFile(in)
	case "multipart/form-data":
		return s.batchOfForm(in, params["boundary"])
	}
	return s.batchOfBody(in, media)
}

// An intake is one upload on its way to be a batch.
type intake struct {
	w        http.ResponseWriter
	r        *http.Request
	c        *call
	id       string
	key      *keyedBatch // nil: without an Idempotency-Key
	settings *batchSettings
	input    upload
}

// known reports an upload whose key names a batch: nothing of it is to be
// stored, but whether it is the same is to be found out.
func (in *intake) known() bool { return in.key != nil && in.key.batch != nil }

// object is where the input goes.
func (in *intake) object() string { return fmt.Sprintf("b/%s/%s/input", in.c.account.ID, in.id) }

// batchOfBody makes a batch of the body itself.
func (s *Server) batchOfBody(in *intake, media string) (err error) {
	if in.settings, err = s.batchSettings(in.c, in.c.query); err != nil {
		return err
	}
	if in.settings.format == "" {
		if in.settings.format, err = formatOf(in.r, media); err != nil {
			return err
		}
	}
	a, err := arrive(in.w, in.r)
	if err != nil {
		return err
	}
	if in.settings.dryRun {
		return s.dryRun(in, a)
	}
	if err := s.take(in, a, in.r.ContentLength); err != nil {
		return err
	}
	return s.finishIntake(in)
}

// take stores what arrives; of what is known already it takes the digest alone.
func (s *Server) take(in *intake, a *arriving, size int64) error {
	if in.known() {
		if _, err := io.Copy(io.Discard, a); err != nil {
			return err
		}
		in.input = a.upload("")
		return nil
	}
	err := s.store(in.r.Context(), in.c, in.object(), a, size)
	in.input = a.upload(in.object())
	return err
}

// finishIntake makes the batch of an input that is stored, or finds the one
// that its key names.
func (s *Server) finishIntake(in *intake) error {
	var hash, fingerprint []byte
	if in.key != nil {
		hash, fingerprint = in.key.hash, in.settings.fingerprint(in.r, in.input.sum, s.digested(in.c.account.ID))
	}
	linger(in.w, storeWithin)
	if in.known() {
		return s.replayBatch(in, fingerprint)
	}
	b := in.settings.batch(in.id, in.c)
	b.Input, b.InputBytes, b.Gzip, b.File = in.input.object, in.input.size, in.input.gzip, in.input.file
	if err := s.sealDefaults(b); err != nil {
		return err
	}
	err := s.insertBatch(in.r.Context(), b, hash, fingerprint)
	if f := fault.From(err); f != nil && f.Kind != fault.Unavailable { // of that nobody knows how it went
		s.dropInput(in)
	}
	if fault.Is(err, fault.Conflict) && in.key != nil { // the same upload at the same time was faster
		var again error
		if in.key, again = s.batchKey(in.r, in.c); again == nil && in.known() {
			return s.replayBatch(in, fingerprint)
		}
	}
	if err != nil {
		return err
	}
	s.log.Debug("batch uploaded", "account", in.c.account.ID, "batch", b.ID, "size_bytes", b.InputBytes)
	return s.writeBatch(in.w, b)
}

// dropInput removes an input that no batch was made of, unless it is a file of
// its own.
func (s *Server) dropInput(in *intake) {
	if in.input.object != "" && in.input.file == "" {
		s.discard(in.input.object)
	}
}

// insertBatch stores a batch, whether its client waits for that or not.
func (s *Server) insertBatch(client context.Context, b *batch.Batch, hash, fingerprint []byte) error {
	ctx, cancel := s.detached(client, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	return unavailable(s.deps.Store.InsertBatch(ctx, b, batchExpires, hash, fingerprint),
		"the archive does not answer at the moment; try again, with an Idempotency-Key, since the batch may be there")
}

// writeBatch answers with a batch that was accepted.
func (s *Server) writeBatch(w http.ResponseWriter, b *batch.Batch) error {
	v := presentBatch(b, 0, time.Time{}, s.cfg.PublicURL)
	w.Header().Set("Location", v.Links.Self)
	return writeJSON(w, http.StatusAccepted, v)
}

// keyedBatch is what the archive knows of the Idempotency-Key of an upload.
type keyedBatch struct {
	hash        []byte // of account and key
	batch       *batch.Batch
	fingerprint []byte // of the request that made it
}

// batchKey asks the archive for the batch that the request's key names; nil
// without a key.
func (s *Server) batchKey(r *http.Request, c *call) (*keyedBatch, error) {
	if c.key == "" {
		return nil, nil
	}
	hash := sha256.Sum256([]byte(c.account.ID + "\x00" + c.key))
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	b, fingerprint, err := s.deps.Store.BatchByKey(ctx, c.account.ID, hash[:])
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, unavailable(err, "whether the Idempotency-Key was used cannot be told at the moment; try again")
	}
	return &keyedBatch{hash: hash[:], batch: b, fingerprint: fingerprint}, nil
}

// replayBatch answers with the batch that a key names.
func (s *Server) replayBatch(in *intake, fingerprint []byte) error {
	if string(in.key.fingerprint) != string(fingerprint) {
		return fault.New(fault.KeyReused, "this Idempotency-Key was used for another upload; use a new key for a new one")
	}
	in.w.Header().Set("X-Idempotent-Replay", "true")
	return s.writeBatch(in.w, in.key.batch)
}
