package object

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// fail says what was done to which key, and turns S3's codes into this
// package's errors. It is the one place that knows them. Nil stays nil.
func (b *Bucket) fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	where := op + " in bucket " + b.name
	if key != "" {
		where = op + " " + key + " in bucket " + b.name
	}
	switch answer := minio.ToErrorResponse(err); {
	case answer.Code == minio.NoSuchKey:
		// A bucket that is missing is not among these: it is a broken
		// installation, and no object may be declared lost for it.
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case answer.Code == minio.PreconditionFailed, answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", where, ErrExists)
	case answer.Code == "ConditionalRequestConflict":
		// Two PUTs of one key at once, on AWS: the other one goes first, and a
		// repetition of ours is told that the key is taken.
		return fmt.Errorf("%s: %w", where, ErrExists)
	case errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) != nil:
		return fmt.Errorf("%s: %w: %w", where, context.Cause(ctx), err)
	default:
		return fmt.Errorf("%s: %w", where, err)
	}
}
