package farm

import (
	"fmt"
	"io"
	"strings"
)

// banner is what a person needs after a start.
type banner struct {
	url     string
	admin   string // "" when it is url
	data    string
	keyFile string // "" when this farm has no key of its own making
	cluster string
	version string
	// pictures are the files that the demo wrote.
	pictures []string
}

func (b banner) print(w io.Writer) error {
	var s strings.Builder
	line := func(name, value string) { fmt.Fprintf(&s, "  %-10s %s\n", name, value) }
	fmt.Fprintf(&s, "\ntintype %s is ready.\n\n", b.version)
	line("API", b.url+"/v1")
	line("contract", b.url+"/openapi.yaml")
	admin := b.url
	if b.admin != "" {
		admin = b.admin
	}
	line("admin", admin+"/admin/v1 (token in "+quote(b.data+"/admin.token")+")")
	line("metrics", admin+"/metrics")
	if b.cluster != "" {
		line("cluster", b.cluster+" (token in "+quote(b.data+"/worker.token")+")")
	}
	line("data", b.data)
	key := "$TINTYPE_KEY"
	if b.keyFile != "" {
		line("key", b.keyFile)
		key = "$(cat " + quote(b.keyFile) + ")"
	} else {
		line("key", "none made here; make one with: tintype key create ACCOUNT")
	}
	for _, path := range b.pictures {
		line("rendered", path)
	}
	fmt.Fprintf(&s, `
Take a picture:

  curl -H "Authorization: Bearer %s" -o shot.png \
    '%s/v1/screenshot?url=https://example.com'

Ctrl-C stops, after the running jobs; a second one does not wait for them.
`, key, b.url)
	_, err := io.WriteString(w, s.String())
	return err
}

// quote makes a path safe to paste into a shell, and leaves plain ones plain.
func quote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
