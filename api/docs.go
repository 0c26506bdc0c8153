package api

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// The pages of /docs. scalar.js is a build of somebody else, kept packed and
// unchanged: `make vendor-web` fetches it and compares its digest.
var (
	//go:embed web/docs.html
	docsPage []byte
	//go:embed web/start.js
	docsStart []byte
	//go:embed web/scalar.js.gz
	docsScalar []byte
)

// docsPolicy lets the page have what this server gives and nothing else. Styles
// may stand in it: the reference writes its own.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request, _ *call) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapiYAML) // the client that went away is noticed by the server
	return nil
}

// openapiJSON is the contract as JSON, in its order.
var openapiJSON = sync.OnceValues(func() ([]byte, error) { return yaml.YAMLToJSON(openapiYAML) })

func (s *Server) openapiAsJSON(w http.ResponseWriter, _ *http.Request, _ *call) error {
	text, err := openapiJSON()
	if err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // as above
	return nil
}

// docs is the contract for people: a page that asks nobody but this server.
func (s *Server) docs(w http.ResponseWriter, _ *http.Request, _ *call) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", docsPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(docsPage) // as above
	return nil
}

func (s *Server) docsStart(w http.ResponseWriter, _ *http.Request, _ *call) error {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(docsStart) // as above
	return nil
}

func (s *Server) docsScalar(w http.ResponseWriter, r *http.Request, _ *call) error {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=86400")
	h.Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(docsScalar) // as above
		return nil
	}
	plain, err := gzip.NewReader(bytes.NewReader(docsScalar))
	if err != nil {
		return fmt.Errorf("scalar.js.gz: %w", err)
	}
	_, _ = io.Copy(w, plain) // as above
	return nil
}
