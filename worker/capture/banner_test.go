package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestConsentScript: what is embedded is what `make vendor-consent`
// compares, and what its notice and its licence speak of.
func TestConsentScript(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile("autoconsent/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	vendor, notice := read("vendor.sh"), read("README.md")
	version := valueOf(t, vendor, "version=")
	sum := sha256.Sum256([]byte(consentScript))
	digest := hex.EncodeToString(sum[:])
	if want := valueOf(t, vendor, "sum="); digest != want {
		t.Errorf("the script's digest is %s; vendor.sh compares %s", digest, want)
	}
	for _, want := range []string{digest, version, "@duckduckgo/autoconsent", "Mozilla Public License 2.0", "https://github.com/duckduckgo/autoconsent", "unmodified"} {
		if !strings.Contains(notice, want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(read("LICENSE")), "Mozilla Public License Version 2.0") {
		t.Error("LICENSE is another one")
	}
}

func valueOf(t *testing.T, script, name string) string {
	t.Helper()
	for line := range strings.Lines(script) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("vendor.sh has no %s", name)
	return ""
}
