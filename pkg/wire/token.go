package wire

import (
	"context"
	"crypto/subtle"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/tintype/tintype/pkg/fault"
)

type bearer struct {
	token  string
	secure bool
}

// BearerToken shows a token on every call. secure refuses to send it over a
// connection without TLS; a unix socket or loopback needs none.
func BearerToken(token string, secure bool) credentials.PerRPCCredentials {
	return bearer{token, secure}
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

// RequireToken refuses a stream that does not show the token its method wants.
// want gives the token of a full method name; "" refuses every call of it.
func RequireToken(want func(method string) string) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		token := want(info.FullMethod)
		md, _ := metadata.FromIncomingContext(ss.Context())
		shown := md.Get("authorization")
		if token == "" || len(shown) != 1 || subtle.ConstantTimeCompare([]byte(shown[0]), []byte("Bearer "+token)) != 1 {
			return FaultStatus(fault.New(fault.Unauthenticated, "the bearer token shown does not open this service: is it of this farm?"))
		}
		return handler(srv, ss)
	}
}
