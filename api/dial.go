package api

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// maxFrontMessage bounds a message from the leader. It gathers answers, each
// with a spec and evidence of up to 16 KiB, for as long as its writer is busy.
const maxFrontMessage = 64 << 20

// dialer makes connections to schedulers with creds; nil is plain text.
func dialer(creds credentials.TransportCredentials) func(address string) (*grpc.ClientConn, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return func(address string) (*grpc.ClientConn, error) {
		return grpc.NewClient(address, grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrontMessage)),
			grpc.WithNoProxy()) // HTTPS_PROXY is for the Internet, not for the farm
	}
}

// untrusted recognises a scheduler with which no TLS came about: waiting does
// not cure it, a person does.
func untrusted(err error) bool {
	text := err.Error()
	return strings.Contains(text, "authentication handshake failed") || strings.Contains(text, "remote error: tls")
}
