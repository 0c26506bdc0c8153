package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/api/bundle"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// zipSmall is the size up to which artifacts are fetched ahead of their
	// turn, and zipAhead how many of them at once; zipWhole is the size up to
	// which they are in memory at all. Together it is ten megabytes a ZIP.
	zipSmall = 1 << 20
	zipAhead = 4
	zipWhole = 4 << 20
)

// sendZIP answers with the artifacts of a batch, and with its results as the
// last entry. An artifact is compared with its digest before its first byte
// goes; what is lost is named among the results.
func (s *Server) sendZIP(w http.ResponseWriter, r *http.Request, c *call, b *batch.Batch) error {
	h := w.Header()
	begin := func() {
		h.Set("Content-Type", "application/zip")
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": b.ID + ".zip"}))
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
	to := &gathered{to: steady{w}, begin: begin}
	z := &zipping{server: s, call: c, batch: b, out: bundle.New(to)}
	defer z.out.Discard()
	if err := z.artifacts(r.Context()); err != nil {
		return err
	}
	if err := z.results(r.Context()); err != nil {
		return err
	}
	return to.flush()
}

// packers bounds the answers that are made of many artifacts and go on for
// long: each holds memory and works for as long as its client reads.
type packers struct {
	mu  sync.Mutex
	all int            // guarded by mu, as all below
	of  map[string]int // by account
}

const (
	maxPackers        = 8
	maxPackersAccount = 2
)

// take takes a place, to be released.
func (p *packers) take(accountID string) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refusal := &fault.Error{Kind: fault.Unavailable, RetryAfter: 30 * time.Second}
	switch {
	case p.of[accountID] >= maxPackersAccount:
		refusal.Detail = "this server is sending two ZIPs or contact sheets to the account already; wait for one to end"
		return nil, refusal
	case p.all >= maxPackers:
		refusal.Detail = "this server is sending as many ZIPs and contact sheets as it can; try again"
		return nil, refusal
	}
	if p.of == nil {
		p.of = map[string]int{}
	}
	p.all++
	p.of[accountID]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		if p.of[accountID]--; p.of[accountID] == 0 {
			delete(p.of, accountID)
		}
	}, nil
}

// gathered writes in larger pieces, and begins the answer with the first.
type gathered struct {
	to    io.Writer
	begin func() // nil once it was done
	b     bytes.Buffer
}

func (g *gathered) Write(p []byte) (int, error) {
	g.b.Write(p)
	if g.b.Len() < resultPiece {
		return len(p), nil
	}
	return len(p), g.flush()
}

func (g *gathered) flush() error {
	if g.begin != nil {
		g.begin()
		g.begin = nil
	}
	if _, err := g.to.Write(g.b.Bytes()); err != nil {
		return fault.Wrap(fault.Canceled, err, "the client went away")
	}
	g.b.Reset()
	return nil
}

// zipping is one ZIP on its way.
type zipping struct {
	server *Server
	call   *call
	batch  *batch.Batch
	out    *bundle.Writer
	sent   lineSet
	absent []absent // whose artifact is not in it
	dry    error    // the quota's refusal: nothing more is sent
}

// absent is lines whose artifact is missing for one reason.
type absent struct {
	lines lineSet
	why   *BatchLineError
}

// fetched is an artifact that is to be sent next.
type fetched struct {
	*outcome
	data chan []byte // of a small one: comes when it is here; closed without any where it is not
	err  error       // set before
}

// artifacts sends all of them in the order of lines. Small ones are fetched
// while others are sent.
func (z *zipping) artifacts(ctx context.Context) error {
	o, err := z.server.outcomes(ctx, z.batch)
	if err != nil {
		return err
	}
	defer o.close()
	g, ctx := errgroup.WithContext(ctx)
	ahead := make(chan *fetched, zipAhead)
	g.Go(func() error {
		defer close(ahead)
		for {
			out, err := o.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if out.artifact() == nil {
				continue
			}
			f := &fetched{outcome: out}
			if out.job.Result.SizeBytes <= zipSmall {
				f.data = make(chan []byte, 1)
				g.Go(func() error {
					defer close(f.data)
					data, err := z.server.artifact(ctx, f.job)
					if f.err = err; err == nil {
						f.data <- data
					}
					return nil
				})
			}
			select {
			case ahead <- f:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	g.Go(func() error {
		for f := range ahead {
			if err := z.send(ctx, f); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// send adds one artifact, or notes why it cannot be.
func (z *zipping) send(ctx context.Context, f *fetched) error {
	err := z.dry
	if err == nil {
		err = z.server.sentBeside(ctx, z.call, f.job.Result.SizeBytes)
	}
	if err == nil {
		err = z.add(ctx, f)
	}
	if err == nil {
		z.sent.add(f.line)
		return nil
	}
	why := fault.From(err)
	switch why.Kind {
	case fault.Gone:
		if why.Code == codeLost {
			z.server.giveBack(z.call, f.job.ID)
		}
	case fault.QuotaExceeded:
		z.dry = err
	default:
		return err
	}
	z.miss(f.line, &BatchLineError{Code: cmp.Or(why.Code, faceOf(why.Kind).code), Detail: why.Detail})
	return nil
}

// miss notes why the artifact of a line is not in the ZIP. There are few
// reasons, however many lines.
func (z *zipping) miss(line int, why *BatchLineError) {
	for i := range z.absent {
		if *z.absent[i].why == *why {
			z.absent[i].lines.add(line)
			return
		}
	}
	z.absent = append(z.absent, absent{why: why})
	z.absent[len(z.absent)-1].lines.add(line)
}

func (z *zipping) add(ctx context.Context, f *fetched) error {
	name := zipName(f.outcome)
	size := f.job.Result.SizeBytes
	if size > zipWhole {
		return z.addLarge(ctx, name, f.job)
	}
	var data []byte
	var err error
	if f.data == nil {
		data, err = z.server.artifact(ctx, f.job)
	} else {
		data = <-f.data
		err = f.err
	}
	if err != nil {
		return err
	}
	out, err := z.out.Stored(name, size, crc32.ChecksumIEEE(data), f.job.FinishedAt)
	if err == nil {
		_, err = out.Write(data)
	}
	return err
}

// addLarge reads what is too large for the memory twice: to compare it with its
// digest, and to send it.
func (z *zipping) addLarge(ctx context.Context, name string, j *job.Job) error {
	sum, crc := sha256.New(), crc32.NewIEEE()
	if err := z.server.copyArtifact(ctx, io.MultiWriter(sum, crc), j); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != j.Result.SHA256 {
		return artifactLost(j, errors.New("the digest is not the recorded one"))
	}
	out, err := z.out.Stored(name, j.Result.SizeBytes, crc.Sum32(), j.FinishedAt)
	if err != nil {
		return err
	}
	err = z.server.copyArtifact(ctx, out, j)
	if err != nil && !fault.Is(err, fault.Canceled) {
		// Half an entry was sent.
		return fault.Wrap(fault.Unavailable, err, "the object store does not answer at the moment; try again")
	}
	return err
}

// artifact is the bytes of a job's artifact, compared with their digest.
func (s *Server) artifact(ctx context.Context, j *job.Job) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(j.Result.SizeBytes))
	if err := s.copyArtifact(ctx, &b, j); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b.Bytes()); hex.EncodeToString(sum[:]) != j.Result.SHA256 {
		return nil, artifactLost(j, fmt.Errorf("digest is %x, %s was recorded", sum, j.Result.SHA256))
	}
	return b.Bytes(), nil
}

// copyArtifact copies as many bytes as were recorded.
func (s *Server) copyArtifact(ctx context.Context, to io.Writer, j *job.Job) error {
	body, info, err := s.deps.Bucket.Open(ctx, j.Result.Object, 0)
	if err != nil {
		return s.missing(ctx, j, err)
	}
	defer body.Close()
	if info.SizeBytes != j.Result.SizeBytes {
		return artifactLost(j, fmt.Errorf("%d bytes are stored, %d were recorded", info.SizeBytes, j.Result.SizeBytes))
	}
	n, err := io.Copy(to, body)
	if err == nil && n < j.Result.SizeBytes {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return err // of the client, not of the store
		}
		return lostOrDown(j, err)
	}
	return nil
}

// results adds what became of every line, and which file is whose, and ends
// the ZIP.
func (z *zipping) results(ctx context.Context) error {
	o, err := z.server.outcomes(ctx, z.batch)
	if err != nil {
		return err
	}
	defer o.close()
	err = z.out.Packed("results.jsonl", o.now, func(to io.Writer) error {
		for {
			out, err := o.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, a := range z.absent {
				if a.lines.has(out.line) {
					out.failure = a.why
				}
			}
			v := presentOutcome(out, z.server.cfg.PublicURL)
			if z.sent.has(out.line) {
				v.File = orNull(zipName(out))
			}
			line, err := marshal(v)
			if err == nil {
				_, err = to.Write(append(line, '\n'))
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	return z.out.Close()
}

// zipName names the artifact of a line.
func zipName(o *outcome) string {
	kind := ""
	if o.job != nil && o.job.Result != nil {
		kind = o.job.Result.ContentType
	}
	return batch.FileName(o.line, o.customID, kind)
}

// lineSet is a set of numbers of lines: two megabytes at most.
type lineSet []uint64

func (l *lineSet) add(line int) {
	if need := line/64 + 1; len(*l) < need {
		*l = append(*l, make([]uint64, max(need, 2*len(*l))-len(*l))...)
	}
	(*l)[line/64] |= 1 << (line % 64)
}

func (l lineSet) has(line int) bool { return line/64 < len(l) && l[line/64]&(1<<(line%64)) != 0 }
