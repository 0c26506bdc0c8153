package identity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/identity/identitytest"
)

func load(t *testing.T, f identity.Files, roles ...identity.Role) *identity.Identity {
	t.Helper()
	i, err := identity.Load(f, slog.New(slog.NewTextHandler(t.Output(), nil)), roles...)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// meet shakes hands and sends a byte each way: with TLS 1.3 a client that is
// refused learns it with its first read.
func meet(t *testing.T, server, client credentials.TransportCredentials) (info credentials.AuthInfo, serverErr, clientErr error) {
	t.Helper()
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	ended := make(chan error, 1)
	go func() {
		conn, _, err := server.ServerHandshake(left)
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		if err != nil {
			left.Close()
		}
		ended <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, info, clientErr := client.ClientHandshake(ctx, "localhost:9090", right)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	} else {
		right.Close()
	}
	return info, <-ended, clientErr
}

func TestMeeting(t *testing.T) {
	dir := t.TempDir()
	ours, other := identitytest.New(t), identitytest.New(t)
	a := ours.Issue(t, dir, "scheduler")
	b := ours.Issue(t, dir, "worker", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })
	stranger := other.Issue(t, dir, "stranger")
	elsewhere := ours.Issue(t, dir, "elsewhere", func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere"} })
	misled := b
	misled.Cert, misled.Key, misled.CA = stranger.Cert, stranger.Key, stranger.CA

	server := load(t, a, identity.Listens).Listening()
	info, se, ce := meet(t, server, load(t, b, identity.Dials).Dialling())
	if se != nil || ce != nil {
		t.Fatalf("own peers: %v, %v", se, ce)
	}
	if tlsInfo, ok := info.(credentials.TLSInfo); !ok || tlsInfo.State.Version != 0x0304 {
		t.Errorf("want TLS 1.3, got %+v", info)
	}
	if _, se, ce := meet(t, server, load(t, misled, identity.Dials).Dialling()); se == nil || ce == nil || !strings.Contains(ce.Error(), "is not signed by the CA in "+misled.CA) {
		t.Errorf("another farm's worker: %v, %v", se, ce)
	}
	// A worker that knows our CA and has another's certificate.
	if _, se, ce := meet(t, server, mixed(t, dir, stranger, a)); se == nil || ce == nil {
		t.Errorf("a certificate of another CA: %v, %v", se, ce)
	}
	if _, se, ce := meet(t, load(t, elsewhere, identity.Listens).Listening(), load(t, b, identity.Dials).Dialling()); se == nil || ce == nil || !strings.Contains(ce.Error(), "for other names") {
		t.Errorf("a scheduler under a wrong name: %v, %v", se, ce)
	}
	bare := credentials.NewClientTLSFromCert(pool(t, a.CA), "localhost")
	if _, se, ce := meet(t, server, bare); se == nil || ce == nil || !strings.Contains(ce.Error(), "certificate required") {
		t.Errorf("no certificate: %v, %v", se, ce)
	}
}

// mixed dials with another CA's pair and trusts ours, which Load would refuse.
func mixed(t *testing.T, dir string, pair, trusted identity.Files) credentials.TransportCredentials {
	t.Helper()
	both := pair
	both.CA = filepath.Join(dir, "both.crt")
	var text []byte
	for _, f := range []identity.Files{pair, trusted} {
		ca, err := os.ReadFile(f.CA)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, ca...)
	}
	if err := os.WriteFile(both.CA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return load(t, both, identity.Dials).Dialling()
}

func pool(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(text)
	return p
}

// Each mistake is told with the file and the way out.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	ca := identitytest.New(t)
	good := ca.Issue(t, dir, "good")
	with := func(change func(f *identity.Files)) identity.Files {
		f := good
		change(&f)
		return f
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := os.ReadFile(good.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files identity.Files
		want  []string
	}{
		"half":      {identity.Files{Cert: good.Cert}, []string{"--grpc-key is missing", "all of"}},
		"not there": {with(func(f *identity.Files) { f.CA = "/does/not/exist" }), []string{"/does/not/exist"}},
		"no pem":    {with(func(f *identity.Files) { f.Cert = write("text", "hello", 0o600) }), []string{"holds no certificate", "BEGIN CERTIFICATE"}},
		"open key":  {with(func(f *identity.Files) { f.Key = write("open", string(key), 0o644) }), []string{"chmod 600"}},
		"no key":    {with(func(f *identity.Files) { f.Key = good.CA }), []string{"first certificate in"}},
		"passphrase": {with(func(f *identity.Files) {
			f.Key = write("enc", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600)
		}), []string{"without a passphrase"}},
		"another's key": {with(func(f *identity.Files) { f.Key = ca.Issue(t, dir, "b").Key }), []string{"made together"}},
		"another CA":    {with(func(f *identity.Files) { f.CA = identitytest.New(t).Issue(t, dir, "c").CA }), []string{"is not signed by the CA in", "c-ca.crt"}},
		"ended": {
			ca.Issue(t, dir, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
			[]string{"old.crt", "ended on", "takes it up by itself"},
		},
		"not begun": {ca.Issue(t, dir, "new", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), []string{"begins on", "clock"}},
		"for servers": {
			ca.Issue(t, dir, "server", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }),
			[]string{"not for clientAuth", "extendedKeyUsage"},
		},
		"nameless": {ca.Issue(t, dir, "nameless", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }), []string{"subjectAltName"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := identity.Load(test.files, nil, identity.Listens, identity.Dials)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want something with %q", err, want)
				}
			}
		})
	}
}

// New files are taken up without a restart, also by those who dial; bad ones
// are not, and that is logged once.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.New(t)
		var log bytes.Buffer
		f := ca.Issue(t, dir, "scheduler")
		i, err := identity.Load(f, slog.New(slog.NewTextHandler(&log, nil)), identity.Listens)
		if err != nil {
			t.Fatal(err)
		}
		server, client := i.Listening(), load(t, ca.Issue(t, dir, "worker", year), identity.Dials).Dialling()
		ends := func() time.Time {
			t.Helper()
			info, se, ce := meet(t, server, client)
			if se != nil || ce != nil {
				t.Fatal(se, ce)
			}
			return info.(credentials.TLSInfo).State.PeerCertificates[0].NotAfter
		}
		before := ends()
		if err := os.WriteFile(f.Cert, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(2 * time.Second)
			if got := ends(); !got.Equal(before) {
				t.Errorf("took up rubbish: %s", got)
			}
		}
		if n := strings.Count(log.String(), "not taken up"); n != 1 {
			t.Errorf("%d complaints, want 1:\n%s", n, log.String())
		}
		time.Sleep(29 * 24 * time.Hour)
		ca.Issue(t, dir, "scheduler")
		time.Sleep(2 * time.Second)
		if got := ends(); !got.After(before) {
			t.Errorf("the new certificate is not in use: %s, before %s", got, before)
		}
		time.Sleep(31 * 24 * time.Hour)
		if _, se, ce := meet(t, server, client); se == nil || ce == nil || !strings.Contains(ce.Error(), "out of its time") {
			t.Errorf("an ended certificate: %v, %v", se, ce)
		}
	})
}

func year(c *x509.Certificate) { c.NotAfter = time.Now().Add(360 * 24 * time.Hour) }

// Without an identity nothing is dialled off this machine.
func TestPlain(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.1": false} {
		for _, anywhere := range []bool{false, true} {
			conn := from{addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 9090}}
			_, _, err := identity.Plain(anywhere).Clone().ClientHandshake(t.Context(), "x:9090", conn)
			if (err == nil) != (want || anywhere) {
				t.Errorf("%s, anywhere %v: %v", address, anywhere, err)
			}
			if err != nil && !strings.Contains(err.Error(), "--insecure-cluster") {
				t.Errorf("no way out in: %v", err)
			}
		}
	}
}

// from is a connection that is known by its other end alone.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }
