package object

import (
	"context"
	"iter"
	"time"

	"github.com/minio/minio-go/v7"
)

// PageSize is how many objects S3 lists at once, at most.
const PageSize = 1000

// pageWithin bounds a page of a list: the embedded S3 reads a folder of a
// million entries for it, while others want the disk, too.
const pageWithin = time.Minute

// List yields the objects whose key starts with prefix, in the order of keys.
// An error is yielded once, last; a list that ends without one is complete.
// Each page has its own deadline, so the loop body may take its time.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return b.list(ctx, prefix, PageSize)
}

func (b *Bucket) list(ctx context.Context, prefix string, size int) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		after := ""
		for {
			objects, err := b.Page(ctx, prefix, after, size)
			for _, o := range objects {
				if !yield(o, nil) {
					return
				}
			}
			if err != nil {
				yield(Info{}, err)
				return
			}
			if len(objects) < size {
				return
			}
			after = objects[len(objects)-1].Key
		}
	}
}

// Page is up to size objects, at most PageSize, whose key starts with prefix
// and sorts behind after. Fewer than size are the last ones, or those that
// came before the error.
func (b *Bucket) Page(ctx context.Context, prefix, after string, size int) ([]Info, error) {
	ctx, cancel := within(ctx, pageWithin, "list a page")
	defer cancel()
	var objects []Info
	for oi := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{
		Prefix: prefix, Recursive: true, StartAfter: after, MaxKeys: size,
	}) {
		if oi.Err != nil {
			return objects, b.fail(ctx, "list", prefix, oi.Err)
		}
		if objects = append(objects, info(oi)); len(objects) == size {
			return objects, nil
		}
	}
	// The iterator ends in silence when its context does.
	return objects, b.fail(ctx, "list", prefix, context.Cause(ctx))
}
