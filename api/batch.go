package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// batchExpires is how long a batch may take.
	batchExpires = 7 * 24 * time.Hour
	// maxDefaults bounds the defaults of a batch, in bytes: they are in each of
	// its lines, which may be as long.
	maxDefaults = batch.MaxLine
)

// batchStore is what the archive keeps of batches. An id or a key that is taken
// is a Conflict.
type batchStore interface {
	InsertBatch(ctx context.Context, b *batch.Batch, expiresIn time.Duration, keyHash, fingerprint []byte) error
	Batch(ctx context.Context, accountID, id string) (*batch.Batch, error)
	BatchByKey(ctx context.Context, accountID string, keyHash []byte) (b *batch.Batch, fingerprint []byte, err error)
}

// batchMedia are the media types of raw inputs.
var batchMedia = map[string]batch.Format{
	"application/x-ndjson": batch.JSONL, "application/ndjson": batch.JSONL, "application/jsonl": batch.JSONL,
	"application/x-jsonlines": batch.JSONL, "application/json-lines": batch.JSONL,
	"text/csv": batch.CSV, "text/plain": batch.Text,
}

// createBatch is POST /v1/batches.
func (s *Server) createBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	settings, err := s.batchSettings(c, c.query)
	if err != nil {
		return err
	}
	if settings.format == "" {
		if settings.format, err = formatOf(r); err != nil {
			return err
		}
	}
	return s.acceptBatch(w, r, c, settings)
}

// acceptBatch stores the input and then the batch.
func (s *Server) acceptBatch(w http.ResponseWriter, r *http.Request, c *call, settings *batchSettings) error {
	id := batch.NewID()
	up := &upload{object: fmt.Sprintf("b/%s/%s/input", c.account.ID, id)}
	key, err := s.batchKey(r, c)
	if err != nil {
		return err
	}
	if key != nil && key.batch != nil { // nothing is to be stored, but whether it is the same is to be known
		if err := s.measureUpload(w, r, up); err != nil {
			return err
		}
		return s.replayBatch(w, c, key, settings.fingerprint(r, up.sum))
	}
	if err := s.storeUpload(w, r, c, up); err != nil {
		return err
	}
	b := settings.batch(id, c)
	b.Input, b.InputBytes, b.Gzip = up.object, up.size, up.gzip
	var fingerprint []byte
	var hash []byte
	if key != nil {
		hash, fingerprint = key.hash, settings.fingerprint(r, up.sum)
	}
	linger(w, storeWithin)
	err = s.insertBatch(r.Context(), b, hash, fingerprint)
	if f := fault.From(err); f != nil && f.Kind != fault.Unavailable { // of that nobody knows how it went
		s.discard(up.object)
	}
	if fault.Is(err, fault.Conflict) && key != nil { // the same upload at the same time was faster
		if key, err = s.batchKey(r, c); err == nil && key.batch != nil {
			return s.replayBatch(w, c, key, fingerprint)
		}
	}
	if err != nil {
		return err
	}
	s.log.Debug("batch uploaded", "account", c.account.ID, "batch", b.ID, "size_bytes", b.InputBytes)
	return s.writeBatch(w, b)
}

// insertBatch stores a batch, whether its client waits for that or not.
func (s *Server) insertBatch(client context.Context, b *batch.Batch, hash, fingerprint []byte) error {
	ctx, cancel := s.detached(client, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	return unavailable(s.deps.Store.InsertBatch(ctx, b, batchExpires, hash, fingerprint),
		"the archive does not answer at the moment; try again, with an Idempotency-Key, since the batch may be there")
}

// writeBatch answers with a batch.
func (s *Server) writeBatch(w http.ResponseWriter, b *batch.Batch) error {
	v := presentBatch(b, 0, time.Time{}, s.cfg.PublicURL)
	status := http.StatusAccepted
	if b.State.Ended() {
		status = http.StatusOK
	} else {
		w.Header().Set("Location", v.Links.Self)
	}
	return writeJSON(w, status, v)
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
func (s *Server) replayBatch(w http.ResponseWriter, c *call, key *keyedBatch, fingerprint []byte) error {
	if string(key.fingerprint) != string(fingerprint) {
		return fault.New(fault.KeyReused, "this Idempotency-Key was used for another upload; use a new key for a new one")
	}
	w.Header().Set("X-Idempotent-Replay", "true")
	return s.writeBatch(w, key.batch)
}

// batchSettings are everything an upload says beside its input.
type batchSettings struct {
	format     batch.Format // empty: by the input's media type
	onError    batch.OnError
	defaults   json.RawMessage // fields of POST /v1/jobs; nil: none
	webhook    *job.Webhook    // that of the defaults
	customID   string
	metadata   map[string]string
	lineEvents bool
	said       map[string]any // as it was sent
}

// batchSettings reads settings out of an input whose members the contract has
// judged. Its error tells all that is wrong with them.
func (s *Server) batchSettings(c *call, in *input) (*batchSettings, error) {
	set := &batchSettings{onError: batch.Reject, said: in.members}
	text := func(name string) string {
		v, _ := in.members[name].(string)
		return v
	}
	set.format, set.customID = batch.Format(text("format")), text("custom_id")
	set.onError = cmp.Or(batch.OnError(text("on_error")), batch.Reject)
	set.lineEvents, _ = in.members["batch_line_events"].(bool)
	if metadata := in.object("metadata", s.jobFields.Properties["metadata"].Value); metadata != nil {
		set.metadata = make(map[string]string, len(metadata))
		for name, v := range metadata {
			set.metadata[name], _ = v.(string)
		}
	}
	if defaults := in.object("defaults", nil); defaults != nil {
		var err error
		if set.defaults, set.webhook, err = s.judgeDefaults(c, in, defaults); err != nil {
			return nil, err
		}
	}
	return set, invalid(in.problems...)
}

// batch is what the settings make.
func (set *batchSettings) batch(id string, c *call) *batch.Batch {
	return &batch.Batch{
		ID: id, Account: c.account.ID, Key: c.who.key, Address: c.who.address,
		Format: set.format, OnError: set.onError, Defaults: set.defaults, Webhook: set.webhook, LineEvents: set.lineEvents,
		CustomID: set.customID, Metadata: set.metadata,
	}
}

// fingerprint is that of an upload: what was said and the digest of the input,
// whichever way they came. How numbers are written and the order of members
// make no difference.
func (set *batchSettings) fingerprint(r *http.Request, input []byte) []byte {
	h := sha256.New()
	said := maps.Clone(set.said)
	delete(said, "format") // that is what the lines are read as, also where the media type says it
	said["format"] = set.format
	if set.defaults != nil {
		said["defaults"] = set.defaults
	}
	if set.metadata != nil {
		said["metadata"] = set.metadata
	}
	fmt.Fprintf(h, "%s %s\n", r.Method, r.URL.Path)
	_ = json.NewEncoder(h).Encode(said) // it came as JSON, or as texts
	h.Write(input)
	return h.Sum(nil)
}

// judgeDefaults checks what is to be in every line, as far as that can be told
// without one, and gives it in the form that is kept, and whom it wants told:
// that one is told of the batch's end, too.
func (s *Server) judgeDefaults(c *call, in *input, defaults map[string]any) (json.RawMessage, *job.Webhook, error) {
	sub := &input{members: maps.Clone(defaults), prefix: in.prefix + "defaults/"}
	if _, ok := defaults["custom_id"]; ok {
		sub.add(sub.prefix+"custom_id", "must be another one in each line; leave it out of the defaults")
		delete(sub.members, "custom_id")
	}
	sub.check(s.jobFields)
	raw, err := json.Marshal(sub.members)
	if err != nil {
		return nil, nil, fmt.Errorf("defaults: %w", err)
	}
	if len(raw) > maxDefaults {
		sub.add(in.prefix+"defaults", fmt.Sprintf("must be at most %d bytes long", maxDefaults))
	}
	if sub.members["url"] == nil && sub.members["html"] == nil {
		sub.members["html"] = "that of the line" // or it would be missed here
	}
	told, err := submissionFrom(sub, job.PNG, s.terms(c.account.ID, c.plan))
	if f := fault.From(err); f != nil {
		if len(f.Fields) == 0 {
			return nil, nil, err
		}
		in.problems = append(in.problems, f.Fields...)
	}
	return raw, told.webhook, nil
}

// object is a member that is an object: as such in a body, as JSON in a text.
// Nil if there is none, or what there is was told to be wrong.
func (in *input) object(name string, schema *openapi3.Schema) map[string]any {
	switch v := in.members[name].(type) {
	case map[string]any:
		return v
	case string:
		value, problems, err := parseJSON("value", []byte(v))
		members, ok := value.(map[string]any)
		switch {
		case err != nil:
			in.add(in.prefix+name, strings.Replace(fault.From(err).Detail, "the value ", "", 1))
			return nil
		case !ok:
			in.add(in.prefix+name, "must be a JSON object, not "+valueKind(value))
			return nil
		}
		for _, p := range problems {
			in.add(in.prefix+name+p.Pointer, p.Detail)
		}
		if schema != nil {
			bad := violations(schema, members)
			for _, e := range bad {
				in.add(in.prefix+name, words(e))
			}
			if len(bad) > 0 {
				return nil
			}
		}
		return members
	}
	return nil
}
