package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// maxDefaults bounds the defaults of a batch, in bytes: they are in each of its
// lines, which may be as long.
const maxDefaults = batch.MaxLine

// batchSettings are everything an upload says beside its input.
type batchSettings struct {
	format     batch.Format // empty: by the input's media type
	onError    batch.OnError
	defaults   json.RawMessage // fields of POST /v1/jobs; nil: none
	webhook    *job.Webhook    // that of the defaults
	customID   string
	metadata   map[string]string
	lineEvents bool
	dryRun     bool
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
	set.dryRun, _ = in.members["dry_run"].(bool)
	if metadata := in.object("metadata", s.jobFields.Properties["metadata"].Value); metadata != nil {
		set.metadata = make(map[string]string, len(metadata))
		for name, v := range metadata {
			set.metadata[name], _ = v.(string)
		}
		in.judgeNames(in.prefix+"metadata/", set.metadata)
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
// make no difference. Where the defaults have secrets nobody can try by it what
// they may be.
func (set *batchSettings) fingerprint(r *http.Request, input []byte, digested func([]byte) []byte) []byte {
	h := sha256.New()
	said := maps.Clone(set.said)
	delete(said, "file_id")     // the digest says what is in it
	said["format"] = set.format // also where the media type or a name says it
	if set.defaults != nil {
		said["defaults"] = set.defaults
	}
	if set.metadata != nil {
		said["metadata"] = set.metadata
	}
	fmt.Fprintf(h, "%s %s\n", r.Method, r.URL.Path)
	_ = json.NewEncoder(h).Encode(said) // it came as JSON, or as texts
	h.Write(input)
	if defaults, err := decodeDefaults(set.defaults); err == nil && takeSecrets(defaults) != nil {
		return digested(h.Sum(nil))
	}
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
	if !slices.ContainsFunc(sources, func(name string) bool { return sub.members[name] != nil }) {
		// Or it would be missed here. Markup has no host that cookies could be of.
		sub.members["url"] = "https://that-of-the-line.invalid/"
	}
	by := s.terms(c.account.ID, c.plan)
	by.partial = true
	told, err := submissionFrom(sub, job.PNG, by)
	if f := fault.From(err); f != nil {
		if len(f.Fields) == 0 {
			return nil, nil, err
		}
		in.problems = append(in.problems, f.Fields...)
		return nil, nil, nil
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
