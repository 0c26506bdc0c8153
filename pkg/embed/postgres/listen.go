package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// accessFile, in the cluster's folder, is who may connect while it listens on
// TCP. It is named on the server's command line, so that the cluster's own
// pg_hba.conf, which trusts everybody on loopback, never applies to a port.
const accessFile = "pg_hba.listen.conf"

// access lets the owner of the socket's folder in, and others with the
// password.
const access = `local all all trust
host all all 0.0.0.0/0 scram-sha-256
host all all ::/0 scram-sha-256
`

// checkListen refuses what would open the cluster to more than those who know
// the password on this machine.
func (s *Server) checkListen() error {
	if s.cfg.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q is not host:port: %w", s.cfg.Listen, err)
	}
	if ip := net.ParseIP(host); !s.cfg.Open && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen address %q is not a loopback address", s.cfg.Listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen address %q has no valid port: %w", s.cfg.Listen, err)
	}
	if s.cfg.Password == "" {
		return fmt.Errorf("listening on %s needs a password", s.cfg.Listen)
	}
	return nil
}

// choosePort looks whether the port can be had, which Postgres says in words
// that name neither the flag nor the address, and picks one for port 0.
func (s *Server) choosePort() error {
	if s.cfg.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	_, s.port, err = net.SplitHostPort(s.address)
	return err
}

// listening is what the server is told about TCP.
func (s *Server) listening() ([]string, error) {
	if s.cfg.Listen == "" {
		return []string{"-c", "listen_addresses="}, nil
	}
	host, _, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "*"
	}
	file := filepath.Join(s.cfg.Dir, accessFile)
	if err := os.WriteFile(file, []byte(access), 0o600); err != nil {
		return nil, fmt.Errorf("write who may connect: %w", err)
	}
	if s.owner.other {
		if err := os.Lchown(file, int(s.owner.uid), int(s.owner.gid)); err != nil {
			return nil, fmt.Errorf("write who may connect: %w", err)
		}
	}
	return []string{"-c", "listen_addresses=" + host, "-c", "hba_file=" + file}, nil
}

// setPassword gives the farm's role the password that the port asks for. It is
// kept as a verifier, and sent over the socket alone.
func (s *Server) setPassword(ctx context.Context, conn *pgx.Conn) error {
	if s.cfg.Listen == "" {
		return nil
	}
	var quoted string
	err := conn.QueryRow(ctx, `SELECT quote_literal(@password)`, pgx.NamedArgs{"password": s.cfg.Password}).Scan(&quoted)
	if err == nil {
		_, err = conn.Exec(ctx, `ALTER ROLE `+role+` PASSWORD `+quoted)
	}
	if err != nil {
		return errors.New("set the password: the server refused it") // its error repeats the statement
	}
	return nil
}

// Address is where the server listens on TCP, as host:port; empty when it does
// not. It is valid after Start.
func (s *Server) Address() string { return s.address }

// RemoteURL is how processes without the socket connect through address, which
// is Address or what stands in front of it. It holds the password.
func (s *Server) RemoteURL(address string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(role, s.cfg.Password), Host: address, Path: "/" + database, RawQuery: "sslmode=disable",
	}).String()
}
