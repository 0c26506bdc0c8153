package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// logEvery bounds how often refused peers are logged: anybody who reaches the
// port can be refused as often as he likes.
const logEvery = 10 * time.Second

// Listening is for a gRPC server. Unix sockets stay plain: the file's mode is
// their lock.
func (i *Identity) Listening() credentials.TransportCredentials {
	return listening{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), identity: i, logged: new(atomic.Int64)}
}

// Dialling is for gRPC clients.
func (i *Identity) Dialling() credentials.TransportCredentials {
	return dialling{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), identity: i}
}

// listening makes a configuration of its own for each connection, from what the
// files hold then.
type listening struct {
	credentials.TransportCredentials
	identity *Identity
	logged   *atomic.Int64
}

func (l listening) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "unix" {
		return insecure.NewCredentials().ServerHandshake(conn)
	}
	m := l.identity.current()
	secure, info, err := credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.pool,
		SessionTicketsDisabled: true, // a ticket would outlive the certificate that earned it
	}).ServerHandshake(conn)
	if err != nil {
		l.refused(conn, err)
	}
	return secure, info, err
}

func (l listening) refused(conn net.Conn, err error) {
	now, last := time.Now().UnixNano(), l.logged.Load()
	if now-last >= int64(logEvery) && l.logged.CompareAndSwap(last, now) {
		l.identity.log.Warn("a peer was refused at the gRPC listener", "address", conn.RemoteAddr().String(), "err", err)
	}
}

func (l listening) Clone() credentials.TransportCredentials { return l }

// dialling is the other side of listening.
type dialling struct {
	credentials.TransportCredentials
	identity *Identity
}

func (d dialling) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := d.identity.current()
	secure, info, err := credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.cert}, RootCAs: m.pool,
	}).ClientHandshake(ctx, authority, conn)
	if err != nil {
		err = d.identity.explain(authority, err)
	}
	return secure, info, err
}

func (d dialling) Clone() credentials.TransportCredentials { return d }

// explain says what to do about a scheduler that could not be trusted.
func (i *Identity) explain(authority string, err error) error {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the scheduler at %s has a certificate for other names: have one signed for %s, or --advertise a name that it has (%w)", authority, name.Host, err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("the certificate of the scheduler at %s is not signed by the CA in %s: is it of this farm, and is --grpc-ca the farm's CA? (%w)", authority, i.files.CA, err)
	}
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return fmt.Errorf("the certificate of the scheduler at %s is out of its time: renew it there, and look at the clocks (%w)", authority, err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("the scheduler at %s speaks no TLS: start it with --grpc-cert, --grpc-key and --grpc-ca (%w)", authority, err)
	}
	return fmt.Errorf("no TLS with the scheduler at %s: %w", authority, err)
}

// Plain dials without TLS: on this machine alone, or anywhere if that is
// allowed.
func Plain(anywhere bool) credentials.TransportCredentials {
	if anywhere {
		return insecure.NewCredentials()
	}
	return plain{insecure.NewCredentials()}
}

type plain struct {
	credentials.TransportCredentials
}

func (p plain) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		return nil, nil, fmt.Errorf("the scheduler at %s is off this machine: "+
			"give --grpc-cert, --grpc-key and --grpc-ca, or --insecure-cluster if nobody else reads that network", authority)
	}
	return p.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (p plain) Clone() credentials.TransportCredentials { return p }
