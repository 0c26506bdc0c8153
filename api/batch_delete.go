package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/batch"
)

const (
	// deleteWithin bounds what a request does of the deletion of a batch: the
	// janitor does the rest.
	deleteWithin = 15 * time.Second
	// deleteAtOnce is how many results go with one statement, and their objects
	// with one call.
	deleteAtOnce = 1000
)

// deletionStore is the end of batches.
type deletionStore interface {
	DropBatch(ctx context.Context, accountID, id string) (*batch.Batch, error)
	DropBatchResults(ctx context.Context, b *batch.Batch, after, limit int) (objects []string, last int, err error)
	DeleteBatch(ctx context.Context, id string) error
}

// deleteBatch is DELETE /v1/batches/{id}. With the archive's first word the
// batch is gone; its results follow here, as far as there is time, and else by
// the janitor.
func (s *Server) deleteBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := batchID(r)
	if err != nil {
		return err
	}
	linger(w, deleteWithin)
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), deleteWithin, errors.New("the deletion took too long"))
	defer cancel()
	b, err := s.deps.Store.DropBatch(ctx, c.account.ID, id)
	if err != nil {
		return unavailable(err, "the archive does not answer at the moment; try again")
	}
	if err := s.deleteResults(ctx, b); err != nil {
		s.log.Info("the rest of a deleted batch is left to the janitor", "batch", b.ID, "account", b.Account, "err", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteResults deletes the results of a batch's lines, then its own objects,
// and last of all what names it.
func (s *Server) deleteResults(ctx context.Context, b *batch.Batch) error {
	for after := 0; ; {
		objects, last, err := s.deps.Store.DropBatchResults(ctx, b, after, deleteAtOnce)
		if err != nil {
			return err
		}
		if err := s.deps.Bucket.Delete(ctx, objects...); err != nil {
			return err // the results are gone, and the janitor finds what is left of them
		}
		if after = last; last == 0 {
			break
		}
	}
	var own []string
	for _, key := range []string{b.Input, b.Lines, b.PassObject} {
		if strings.HasPrefix(key, "b/") { // a file's is not the batch's
			own = append(own, key)
		}
	}
	if err := s.deps.Bucket.Delete(ctx, own...); err != nil {
		return err
	}
	return s.deps.Store.DeleteBatch(ctx, b.ID)
}
