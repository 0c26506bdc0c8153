package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
)

// MaxSecrets bounds the secrets of a spec together, in bytes of their JSON: no
// server takes larger headers, and they travel in the job's record.
const MaxSecrets = 16 << 10

// ParseSecrets reads what Marshal wrote; nothing is no secrets.
func ParseSecrets(b []byte) (Secrets, error) {
	var s Secrets
	if len(b) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return Secrets{}, errors.New("the stored secrets are not readable") // the cause may quote them
	}
	return s, nil
}

// Given are the names of the options that were given, sorted.
func (s *Secrets) Given() []string {
	var names []string
	for _, of := range []struct {
		name  string
		given bool
	}{
		{"authorization", s.Authorization != ""},
		{"basic_auth", s.BasicAuth != ""},
		{"cookies", len(s.Cookies) > 0},
		{"headers", len(s.Headers) > 0},
		{"proxy", s.Proxy != ""},
	} {
		if of.given {
			names = append(names, of.name)
		}
	}
	return names
}

// String keeps secrets out of what is printed.
func (s Secrets) String() string { return fmt.Sprintf("secrets of %v", s.Given()) }

// GoString is String.
func (s Secrets) GoString() string { return s.String() }

// LogValue keeps secrets out of logs.
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }

// checkSecrets notes which secrets were given, and bounds them together.
func (s *Spec) checkSecrets() []*FieldError {
	s.Secret = s.Secrets.Given()
	if len(s.Secret) == 0 {
		return nil
	}
	if n := len(s.Secrets.Marshal()); n > MaxSecrets {
		return []*FieldError{{Field: s.Secret[len(s.Secret)-1], Detail: fmt.Sprintf(
			"headers, cookies, authorization, basic_auth and proxy are %d bytes together; at most %d are accepted", n, MaxSecrets)}}
	}
	return nil
}
