package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
	"github.com/tintype/tintype/pkg/seal"
)

// What a job says to its page's server to be let in (headers, cookies,
// passwords) leaves a replica sealed, whether to a stream, to the bucket or to
// the archive. The leader alone opens it, for the worker that has the lease.

// sealed is the sealed form of an account's secrets; nil for none.
func (s *Server) sealed(accountID string, secrets *job.Secrets) []byte {
	plain := secrets.Marshal()
	if plain == nil {
		return nil
	}
	return s.cfg.Secrets.Seal(plain, seal.Request, accountID)
}

// opened is the inverse of sealed.
func (s *Server) opened(accountID string, sealed []byte) (job.Secrets, error) {
	if len(sealed) == 0 {
		return job.Secrets{}, nil
	}
	plain, err := s.cfg.Secrets.Open(sealed, seal.Request, accountID)
	if err != nil {
		return job.Secrets{}, fault.Wrap(fault.Invalid, err, "what it says to its page's server (%s) cannot be read any more: the farm's secret key was changed; submit it again", secretNames)
	}
	return job.ParseSecrets(plain)
}

// digested tells an account's secrets apart without telling what they are.
func (s *Server) digested(accountID string) func([]byte) []byte {
	return func(plain []byte) []byte { return s.cfg.Secrets.Digest(plain, seal.Request, accountID) }
}

// secretNames are the options that are kept sealed, as text.
const secretNames = "authorization, basic_auth, cookies, headers, proxy"

// isSecret reports an option that is kept sealed, offered or not.
func isSecret(name string) bool {
	return slices.ContainsFunc(option.Table, func(o option.Option) bool { return o.Name == name && o.Secret })
}

// takeSecrets takes those members out of an object that are kept sealed; nil if
// there are none.
func takeSecrets(members map[string]any) map[string]any {
	var taken map[string]any
	for name, v := range members {
		if !isSecret(name) {
			continue
		}
		if taken == nil {
			taken = make(map[string]any)
		}
		taken[name] = v
		delete(members, name)
	}
	return taken
}

// sealDefaults takes what is to be kept sealed out of a batch's defaults, and
// keeps it beside them.
func (s *Server) sealDefaults(b *batch.Batch) error {
	members, err := decodeDefaults(b.Defaults)
	if err != nil {
		return fmt.Errorf("defaults of %s: %w", b.ID, err)
	}
	taken := takeSecrets(members)
	if taken == nil {
		return nil
	}
	plain, err := json.Marshal(taken)
	if err != nil {
		return fmt.Errorf("defaults of %s: %w", b.ID, err)
	}
	if b.Defaults, err = json.Marshal(members); err != nil {
		return fmt.Errorf("defaults of %s: %w", b.ID, err)
	}
	b.Sealed = s.cfg.Secrets.Seal(plain, seal.Request, b.Account)
	return nil
}

// wholeDefaults are a batch's defaults with what is kept sealed.
func (s *Server) wholeDefaults(b *batch.Batch) (map[string]any, error) {
	members, err := decodeDefaults(b.Defaults)
	if err != nil || len(b.Sealed) == 0 {
		return members, err
	}
	plain, err := s.cfg.Secrets.Open(b.Sealed, seal.Request, b.Account)
	if err != nil {
		return nil, err
	}
	taken, err := decodeDefaults(plain)
	if err != nil {
		return nil, err
	}
	if members == nil {
		return taken, nil
	}
	maps.Copy(members, taken)
	return members, nil
}
