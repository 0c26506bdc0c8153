package object

import (
	"context"
	"iter"

	"github.com/minio/minio-go/v7"
)

// pageSize is how many objects are asked for at once: S3's own limit.
const pageSize = 1000

// List yields the objects whose key starts with prefix, in the order of keys.
// An error is yielded once, last; a list that ends without one is complete.
// Each page has its own deadline, so the loop body may take its time.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return b.list(ctx, prefix, pageSize)
}

func (b *Bucket) list(ctx context.Context, prefix string, size int) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		after := ""
		for {
			objects, err := b.page(ctx, prefix, after, size)
			for _, o := range objects {
				if !yield(o, nil) {
					return
				}
			}
			if err != nil {
				yield(Info{}, b.fail(ctx, "list", prefix, err))
				return
			}
			if len(objects) < size {
				return
			}
			after = objects[len(objects)-1].Key
		}
	}
}

// page is up to size objects behind the key after; fewer means they are the
// last, or came before the error.
func (b *Bucket) page(ctx context.Context, prefix, after string, size int) ([]Info, error) {
	ctx, cancel := within(ctx, callWithin, "list a page")
	defer cancel()
	var objects []Info
	for oi := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{
		Prefix: prefix, Recursive: true, StartAfter: after, MaxKeys: size,
	}) {
		if oi.Err != nil {
			return objects, oi.Err
		}
		if objects = append(objects, info(oi)); len(objects) == size {
			return objects, nil
		}
	}
	// The iterator ends in silence when its context does.
	return objects, context.Cause(ctx)
}
