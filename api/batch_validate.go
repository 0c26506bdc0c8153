package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/seal"
)

// validate reads the input of a batch and judges its lines: each is what
// POST /v1/jobs would take, or is wrong. It writes the object of lines anew and
// fills in Lines, Total, Invalid, PassObject and PassTotal, and Failure and
// LeftOut where the batch is to fail for what is wrong; an input that is refused
// as a whole has no lines. Any other trouble is its error, and the batch is as
// it was. It keeps some ten megabytes in memory, and some fifty bytes for each
// custom_id.
func (s *Server) validate(ctx context.Context, b *batch.Batch) error {
	plan, err := s.planOf(ctx, b.Account)
	if err != nil {
		return err
	}
	defaults, err := s.wholeDefaults(b)
	if errors.Is(err, seal.ErrWrongKey) || errors.Is(err, seal.ErrDamaged) {
		s.log.Error("the secrets of a batch do not open", "batch", b.ID, "err", err)
		b.Failure = "what its defaults say to the pages' servers cannot be read any more: the farm's secret key was changed; upload it again"
		return nil
	}
	if err != nil {
		return fmt.Errorf("defaults of %s: %w", b.ID, err)
	}
	source, _, err := s.deps.Bucket.Open(ctx, b.Input, 0)
	if errors.Is(err, object.ErrNotFound) {
		b.Failure = "the input is gone; upload it again"
		return nil
	}
	if err != nil {
		return fmt.Errorf("input of %s: %w", b.ID, err)
	}
	defer source.Close()

	// A name of its own, so that two replicas which both take the batch for
	// theirs do not write one object.
	name := fmt.Sprintf("b/%s/%s/lines-%s.jsonl", b.Account, b.ID, job.EncodeBase32(uuid.New()))
	sum := newLineSums()
	reader, writer := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := s.deps.Bucket.PutStream(ctx, name, reader, "application/x-ndjson")
		reader.CloseWithError(err) // or the other side would write for ever
		return err
	})
	g.Go(func() error {
		err := s.judge(ctx, source, s.reading(b.Account, b.Format, s.terms(b.Account, plan), defaults, len(b.Defaults)+len(b.Sealed)), sum.writeTo(writer))
		writer.CloseWithError(err)
		return err
	})
	err = g.Wait()
	if refused, ok := errors.AsType[*lines.Refused](err); ok {
		b.Failure = whyRefused(refused.Wrong)
		return nil
	}
	if err != nil {
		return fmt.Errorf("validate %s: %w", b.ID, err)
	}
	b.Lines, b.Total, b.Invalid = name, sum.total, sum.invalid
	b.PassObject, b.PassTotal = name, sum.total-sum.invalid
	if b.Failure = sum.failure(b.OnError); b.Failure != "" {
		b.LeftOut = b.PassTotal
	}
	return nil
}

// reading is how lines of that format are understood.
func (s *Server) reading(accountID string, format batch.Format, by terms, defaults map[string]any, size int) *lineReading {
	seal := func(secrets *job.Secrets) []byte { return s.sealed(accountID, secrets) }
	return &lineReading{fields: s.jobFields, seal: seal, terms: by, defaults: defaults, format: format, defaultsSize: size}
}

// planOf is the plan of an account that is not the caller's.
func (s *Server) planOf(ctx context.Context, id string) (account.Plan, error) {
	p := s.policy()
	name := p.AnonymousPlan
	if !account.Anonymous(id) {
		acct, err := s.deps.Store.Account(ctx, id)
		if err != nil {
			return account.Plan{}, fmt.Errorf("plan of %s: %w", id, err)
		}
		name = acct.Plan
	}
	plan, _ := p.Plan(name) // a plan that is gone is the first one, as at the leader
	return plan, nil
}

// decodeDefaults reads defaults that were judged when they came.
func decodeDefaults(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var members map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return members, dec.Decode(&members)
}
