package api

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// maxFrontMessage bounds a message from the leader. It gathers answers, each
// with a spec and evidence of up to 16 KiB, for as long as its writer is busy.
const maxFrontMessage = 64 << 20

// dialer makes connections to schedulers: with TLS where a configuration is
// given, except to this machine. Whether a farm may go without TLS is decided
// where it listens and where it is configured, not here.
func dialer(cfg *tls.Config) func(address string) (*grpc.ClientConn, error) {
	return func(address string) (*grpc.ClientConn, error) {
		creds := insecure.NewCredentials()
		if cfg != nil && !local(address) {
			creds = credentials.NewTLS(cfg)
		}
		return grpc.NewClient(address, grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrontMessage)),
			grpc.WithNoProxy()) // HTTPS_PROXY is for the Internet, not for the farm
	}
}

// local reports a gRPC target on this machine.
func local(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
