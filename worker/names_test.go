package worker_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tintype/tintype/worker/browser"
)

// emptyDNS is a resolver that answers every question with NXDOMAIN.
func emptyDNS(t testing.TB) string { return namesDNS(t) }

// namesDNS is a resolver that knows some names, all of which are 127.0.0.1, and
// those below them.
func namesDNS(t testing.TB, names ...string) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 12 {
				continue
			}
			name, end := "", 12 // of the question: labels, type and class
			for end < n && buf[end] != 0 {
				name += "." + string(buf[end+1:min(end+1+int(buf[end]), n)])
				end += int(buf[end]) + 1
			}
			if end+5 > n {
				continue
			}
			known := slices.ContainsFunc(names, func(have string) bool { return strings.HasSuffix(strings.ToLower(name), "."+have) })
			answer := slices.Clone(buf[:end+5])
			answer[2], answer[3] = 0x81, 0x80 // an answer, recursion
			copy(answer[6:12], make([]byte, 6))
			switch {
			case !known:
				answer[3] |= 3 // NXDOMAIN
			case answer[end+2] == 1: // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
			}
			c.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

// listen serves h on loopback, over TLS if it is to be secure, and gives the
// port.
func listen(t testing.TB, h http.Handler, secure bool) (port string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers hang up when they like
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// trusting is a browser that takes the certificate of listen for any name: the
// binary behind a script that adds the flag for it, and others.
func trusting(t testing.TB, flags ...string) (bin string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	key := sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo)
	dir := filepath.Dir(browserDir(t))
	bin = filepath.Join(dir, "trusting-browser")
	flags = append(flags, "--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(key[:]))
	script := "#!/bin/sh\nexec " + browser.DefaultBin + " " + strings.Join(flags, " ") + " \"$@\"\n"
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}
