package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	keyHeader = "Idempotency-Key"
	maxKey    = 255 // characters
)

// keyed is a request that has an Idempotency-Key, as the archive and the
// leader know it.
type keyed struct {
	hash        []byte // of account and key
	fingerprint []byte // of the request
}

// checkKey holds the header against what the route takes. The body of a
// refused request is not read.
func checkKey(r *http.Request, op *operation) (key string, err error) {
	values := r.Header.Values(keyHeader)
	switch {
	case len(values) == 0:
		return "", nil
	case !op.keyed:
		return "", wrongKey("is not taken here; leave the header out")
	case len(values) > 1:
		return "", wrongKey("is given twice")
	case values[0] == "" || len(values[0]) > maxKey || strings.ContainsFunc(values[0], func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return "", wrongKey(fmt.Sprintf("must be 1 to %d visible ASCII characters", maxKey))
	}
	return values[0], nil
}

func wrongKey(detail string) error {
	return invalid(fault.Field{Pointer: keyHeader, Detail: detail})
}

// keyedBy is the request under its account's key; nil without a key. Requests
// are the same when they say the same: the order of members, white space and
// how a number is written make no difference. It is what the client sent that
// counts, without the defaults, so that a release with new options finds the
// requests of the one before it. Where the request has secrets nobody can try
// by its fingerprint what they may be.
func (s *Server) keyedBy(c *call, r *http.Request, in *input) (*keyed, error) {
	if c.key == "" {
		return nil, nil
	}
	members := maps.Clone(in.members)
	for name, v := range members {
		if n, ok := v.(json.Number); ok {
			f, err := n.Float64()
			if err != nil {
				return nil, fmt.Errorf("fingerprint: %w", err) // the contract took it for a number in range
			}
			members[name] = f
		}
	}
	request := sha256.New()
	fmt.Fprintf(request, "%s %s\n", r.Method, r.URL.Path)
	if err := json.NewEncoder(request).Encode(members); err != nil { // maps are written in order
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	fingerprint := request.Sum(nil)
	if takeSecrets(members) != nil {
		fingerprint = s.digested(c.account.ID)(fingerprint)
	}
	hash := sha256.Sum256([]byte(c.account.ID + "\x00" + c.key))
	return &keyed{hash: hash[:], fingerprint: fingerprint}, nil
}

// remembered asks the archive for the job that a key names. unread says that
// it did not answer: then nobody but the leader may know the key.
func (s *Server) remembered(ctx context.Context, accountID string, k *keyed) (j *job.Job, unread bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	j, fingerprint, err := s.deps.Store.JobByKey(ctx, accountID, k.hash)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, false, nil
	case err != nil:
		s.log.Warn("the archive was not asked for a key", "account", accountID, "err", err)
		return nil, true, nil
	case string(fingerprint) != string(k.fingerprint):
		return nil, false, fault.New(fault.KeyReused, "this Idempotency-Key was used for another request; use a new key for a new request")
	}
	return j, false, nil
}
