// Package identity is who a process is to the other tiers: a certificate, its
// key, and the CA that signs those of the whole farm.
//
// It promises:
//
//  1. Either side of a connection has shown a certificate of the farm's CA, and
//     a scheduler's is for the name under which it was dialled. TLS 1.3.
//  2. Files that change are taken up by the next connection, without a
//     restart; files that make no sense leave the old ones in force.
//  3. What is wrong with a file is said with its name and the way out.
//  4. Without an identity nothing leaves this machine, unless that is allowed
//     in words.
//
// It leaves to others what a peer may do: that is in the tokens of pkg/wire.
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// warnBefore is how long before its end a certificate is complained of.
const warnBefore = 7 * 24 * time.Hour

// Files are where an identity is kept, in PEM. The zero value is none.
type Files struct {
	Cert string // the certificate, followed by those between it and the CA
	Key  string // its private key, for nobody else to read
	CA   string // the farm's CA, one or more certificates
}

// Given reports whether there is anything.
func (f Files) Given() bool { return f != Files{} }

// Role is what a process needs its certificate for.
type Role x509.ExtKeyUsage

// The roles: a scheduler listens, an API replica or worker dials.
const (
	Listens = Role(x509.ExtKeyUsageServerAuth)
	Dials   = Role(x509.ExtKeyUsageClientAuth)
)

func (r Role) String() string {
	if r == Listens {
		return "serverAuth"
	}
	return "clientAuth"
}

// Identity is what the files hold. It is safe for concurrent use.
type Identity struct {
	files Files
	roles []Role
	log   *slog.Logger

	mu      sync.Mutex
	now     material  // guarded by mu
	looked  time.Time // guarded by mu; when the files were last looked at
	trouble string    // guarded by mu; what was last logged of them
}

// material is one reading of the files.
type material struct {
	cert  tls.Certificate
	pool  *x509.CertPool
	stamp stamp
}

// stamp changes with the files.
type stamp [3]struct {
	size int64
	at   time.Time
}

// Load reads the files and judges them for the roles. A nil log discards.
func Load(files Files, log *slog.Logger, roles ...Role) (*Identity, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	i := &Identity{files: files, roles: roles, log: log}
	var err error
	if i.now, err = i.read(time.Now()); err != nil {
		return nil, err
	}
	i.looked = time.Now()
	return i, nil
}

// current is the latest reading that made sense.
func (i *Identity) current() material {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if now.Sub(i.looked) < lookEvery {
		return i.now
	}
	i.looked = now
	if st, err := i.files.stamp(); err == nil && st == i.now.stamp {
		return i.now
	}
	fresh, err := i.read(now)
	if err != nil {
		if i.trouble != err.Error() { // once, not at every connection
			i.trouble = err.Error()
			i.log.Warn("the changed certificate files are not taken up", "err", err)
		}
		return i.now
	}
	i.now, i.trouble = fresh, ""
	i.log.Info("certificate files taken up", "kind", i.files.Cert)
	return i.now
}

func (f Files) stamp() (stamp, error) {
	var s stamp
	for n, path := range []string{f.Cert, f.Key, f.CA} {
		st, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[n].size, s[n].at = st.Size(), st.ModTime()
	}
	return s, nil
}

// read reads the files. The stamp is taken before: what changes meanwhile is
// read again.
func (i *Identity) read(now time.Time) (material, error) {
	f := i.files
	for _, missing := range []struct{ path, flag, what string }{
		{f.Cert, "--grpc-cert", "this process's certificate"},
		{f.Key, "--grpc-key", "the key of its certificate"},
		{f.CA, "--grpc-ca", "the CA that signed the farm's certificates"},
	} {
		if missing.path == "" {
			return material{}, fmt.Errorf("%s is missing: %s; mutual TLS takes all of --grpc-cert, --grpc-key and --grpc-ca", missing.flag, missing.what)
		}
	}
	var m material
	var err error
	if m.stamp, err = f.stamp(); err != nil {
		return m, fmt.Errorf("certificate files: %w", err)
	}
	chain, err := certificates(f.Cert, "--grpc-cert")
	if err != nil {
		return m, err
	}
	if m.cert, err = pair(chain, f); err != nil {
		return m, err
	}
	authorities, err := certificates(f.CA, "--grpc-ca")
	if err != nil {
		return m, err
	}
	m.pool = x509.NewCertPool()
	for _, ca := range authorities {
		m.pool.AddCert(ca)
	}
	return m, i.judge(chain, m.pool, now)
}

// certificates are those of a PEM file, one at least.
func certificates(path, flag string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(flag, err)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %s holds a certificate that cannot be read: %w", flag, path, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %s holds no certificate; want PEM, beginning with -----BEGIN CERTIFICATE-----", flag, path)
	}
	return out, nil
}

func unreadable(flag string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: %w: give it to user %d, who runs this process", flag, err, os.Geteuid())
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// pair joins the chain with its key.
func pair(chain []*x509.Certificate, f Files) (tls.Certificate, error) {
	st, err := os.Stat(f.Key)
	if err != nil {
		return tls.Certificate{}, unreadable("--grpc-key", err)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return tls.Certificate{}, fmt.Errorf("--grpc-key: every user of this machine can get at %s, a worker's browsers too: chmod 600 %s", f.Key, f.Key)
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return tls.Certificate{}, unreadable("--grpc-key", err)
	}
	if block, _ := pem.Decode(key); block == nil || block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return tls.Certificate{}, fmt.Errorf("--grpc-key: %s holds no key that can be used; want PEM without a passphrase, beginning with -----BEGIN PRIVATE KEY-----", f.Key)
	}
	var text []byte
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	cert, err := tls.X509KeyPair(text, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--grpc-key: the key in %s is not that of the first certificate in %s: put the pair there that was made together (%w)", f.Key, f.Cert, err)
	}
	cert.Leaf = chain[0]
	return cert, nil
}

// judge says what peers would refuse, here where the files' names are known.
func (i *Identity) judge(chain []*x509.Certificate, pool *x509.CertPool, now time.Time) error {
	leaf, f := chain[0], i.files
	const renew = "have a new one signed and put it there; a running process takes it up by itself"
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("--grpc-cert: the certificate in %s ended on %s: %s", f.Cert, leaf.NotAfter.UTC().Format(time.RFC3339), renew)
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("--grpc-cert: the certificate in %s begins on %s: is this machine's clock right?", f.Cert, leaf.NotBefore.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(now) < warnBefore:
		i.log.Warn("the certificate ends soon: "+renew, "kind", f.Cert, "at", leaf.NotAfter.UTC())
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	opts := x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := leaf.Verify(opts); err != nil {
		if ca, ok := errors.AsType[x509.CertificateInvalidError](err); ok && ca.Reason == x509.Expired {
			return fmt.Errorf("--grpc-ca: a certificate above that in %s has ended: %s in %s, and sign the farm's certificates with the new CA (%w)", f.Cert, "put the new CA beside the old one", f.CA, err)
		}
		return fmt.Errorf("--grpc-cert: the certificate in %s is not signed by the CA in %s: one of the files belongs to another farm (%w)", f.Cert, f.CA, err)
	}
	for _, role := range i.roles {
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsage(role)}
		if _, err := leaf.Verify(opts); err != nil {
			return fmt.Errorf("--grpc-cert: the certificate in %s is not for %s, as this mode needs: have it signed with extendedKeyUsage=serverAuth,clientAuth", f.Cert, role)
		}
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		for _, role := range i.roles {
			if role == Listens {
				return fmt.Errorf("--grpc-cert: the certificate in %s is for no name: have it signed with subjectAltName=DNS:… or IP:…, the names under which this scheduler is reached", f.Cert)
			}
		}
	}
	return nil
}
