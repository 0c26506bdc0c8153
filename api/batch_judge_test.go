package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/object"
)

// written is an input of so many lines that is made as it is read.
func written(n int, line func(i int) string) io.Reader {
	r, w := io.Pipe()
	go func() {
		out := bufio.NewWriterSize(w, 64<<10)
		for i := range n {
			if _, err := out.WriteString(line(i)); err != nil {
				return // nobody reads on
			}
		}
		w.CloseWithError(out.Flush())
	}()
	return r
}

var inputs = map[batch.Format]func(i int) string{
	batch.JSONL: func(i int) string {
		return fmt.Sprintf(`{"url":"https://example.com/products/%d?ref=batch","custom_id":"product-%d","width":1280,"full_page":true}`+"\n", i, i)
	},
	batch.CSV: func(i int) string {
		if i == 0 {
			return "url,custom_id,width,full_page\n"
		}
		return fmt.Sprintf("https://example.com/products/%d?ref=batch,product-%d,1280,true\n", i, i)
	},
	batch.Text: func(i int) string { return fmt.Sprintf("https://example.com/products/%d?ref=batch\n", i) },
}

func BenchmarkJudge(b *testing.B) {
	f := newFarm(b)
	for _, format := range []batch.Format{batch.JSONL, batch.CSV, batch.Text} {
		b.Run(string(format), func(b *testing.B) {
			b.ReportAllocs()
			sum := newLineSums()
			err := f.server.judge(b.Context(), written(b.N+1, inputs[format]), f.server.reading("acc_a", format, terms{plan: account.Default()}, nil, 0), sum.writeTo(io.Discard))
			if err != nil || sum.invalid > 0 {
				b.Fatal(err, sum.errors)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// Lines that are as long as may be, and go no faster than they are taken, are
// never in memory together; nor are short ones with long defaults.
func TestJudgingIsFlat(t *testing.T) {
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	server := &Server{jobFields: ops["POST /v1/jobs"].body}
	long := strings.Repeat("x", 60<<10)
	const lines = 120
	for name, c := range map[string]struct {
		line     func(int) string
		defaults map[string]any
	}{
		"long lines":    {func(int) string { return `{"html":"` + long + `"}` + "\n" }, nil},
		"long defaults": {func(i int) string { return fmt.Sprintf(`{"custom_id":"%d"}`+"\n", i) }, map[string]any{"html": long}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var before, during runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			sum := newLineSums()
			write := sum.writeTo(io.Discard)
			reading := server.reading("acc_a", batch.JSONL, terms{plan: account.Default()}, c.defaults, len(long)*len(c.defaults))
			err := server.judge(t.Context(), written(lines, c.line), reading, func(some []batch.Line) error {
				if sum.total > lines/2 && during.HeapAlloc == 0 {
					synctest.Wait() // until nobody can go farther ahead
					runtime.GC()
					runtime.ReadMemStats(&during)
				}
				return write(some)
			})
			if err != nil || sum.total != lines {
				t.Fatal(name, err, sum.total)
			}
			if during.HeapAlloc > before.HeapAlloc+4<<20 {
				t.Errorf("%s: %d bytes in memory", name, during.HeapAlloc-before.HeapAlloc)
			}
		})
	}
}

// What defaults make of many lines is bounded too.
func TestUnderstoodLinesAreBounded(t *testing.T) {
	sum := newLineSums()
	sum.bytes = maxUnderstood - 10
	err := sum.writeTo(io.Discard)([]batch.Line{{Number: 7}})
	if refused, ok := errors.AsType[*lines.Refused](err); !ok || refused.Wrong.Line != 7 || refused.Wrong.Code != lines.CodeTooLarge {
		t.Errorf("%v", err)
	}
}

// A bucket that fails, in the middle or at the end, is no fault of the input,
// and nothing hangs.
func TestValidateWithoutBucket(t *testing.T) {
	f := newFarm(t)
	v := f.upload("/v1/batches", strings.Repeat("https://example.com/\n", 5000), header{"Content-Type": "text/plain"})
	b, err := f.store.Batch(t.Context(), f.acct.ID, v.Id)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.stop(); err != nil { // its feeder has a bucket, too
		t.Fatal(err)
	}
	bucket := f.server.deps.Bucket
	for name, broken := range map[string]brokenBucket{
		"reading": {Bucket: bucket, readable: 1000, writable: 1 << 30},
		"writing": {Bucket: bucket, readable: 1 << 30, writable: 1000},
		"at once": {Bucket: bucket, readable: 1 << 30},
	} {
		f.server.deps.Bucket = broken
		before := *b
		if err := f.server.validate(t.Context(), b); !errors.Is(err, errDown) || b.Failure != "" || b.Lines != before.Lines {
			t.Errorf("%s: %v, %+v", name, err, b)
		}
	}
	f.server.deps.Bucket = bucket
	f.bucket.mu.Lock()
	delete(f.bucket.objects, b.Input)
	f.bucket.mu.Unlock()
	if err := f.server.validate(t.Context(), b); err != nil || b.Failure != "the input is gone; upload it again" {
		t.Errorf("%v, %+v", err, b)
	}
}

// brokenBucket fails after some bytes.
type brokenBucket struct {
	Bucket
	readable, writable int64
}

func (b brokenBucket) Open(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error) {
	body, info, err := b.Bucket.Open(ctx, key, offset)
	if err != nil || b.readable > info.SizeBytes {
		return body, info, err
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(body, b.readable), iotest.ErrReader(errDown))), info, nil
}

func (b brokenBucket) PutStream(_ context.Context, _ string, body io.Reader, _ string) (int64, error) {
	n, err := io.CopyN(io.Discard, body, b.writable)
	if errors.Is(err, io.EOF) {
		return n, nil
	}
	if err == nil {
		err = errDown
	}
	return n, err
}
