package command

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/option"
)

// SignLink prints a signed link. It asks nobody: whether the key is good and
// the options are right is seen when the link is followed.
func SignLink(t Terminal, cfg config.KeySign) error {
	if cfg.Secret == "" {
		return &Usage{"no signing secret: set --signing-secret, TINTYPE_SIGNING_SECRET or TINTYPE_SIGNING_SECRET_FILE"}
	}
	options := url.Values{"url": {cfg.URL}}
	for _, o := range cfg.Options {
		name, value, ok := strings.Cut(o, "=")
		known := option.Find(name)
		list := known != nil && (known.Kind == option.List || known.Kind == option.Object)
		if !ok || name == "" || options.Has(name) && !list {
			return &Usage{fmt.Sprintf("--option %s: want a NAME=VALUE that is not there yet", o)}
		}
		options.Add(name, value)
	}
	path := "/v1/screenshot"
	if cfg.PDF {
		path = "/v1/pdf"
	}
	server := cfg.Server
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	link := client.SignLink(strings.TrimSuffix(server, "/")+path, options, cfg.KeyID, cfg.Secret, time.Now().Add(cfg.Expires))
	_, err := fmt.Fprintln(t.Out, link)
	return err
}
