package wire

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tintype/tintype/pkg/fault"
)

// errorDomain marks an ErrorInfo as ours.
const errorDomain = "tintype"

// Code is the gRPC code of a kind of fault: for logs and for gRPC's own
// machinery. It is never decoded back; the kind travels in ErrorInfo.
func Code(kind fault.Kind) codes.Code {
	switch kind {
	case fault.Invalid, fault.TooLarge:
		return codes.InvalidArgument
	case fault.Unauthenticated:
		return codes.Unauthenticated
	case fault.Forbidden, fault.Blocked:
		return codes.PermissionDenied
	case fault.NotFound, fault.Gone:
		return codes.NotFound
	case fault.Conflict:
		return codes.Aborted
	case fault.KeyReused, fault.RenderFailed:
		return codes.FailedPrecondition
	case fault.RateLimited, fault.ThreadsFull, fault.QuotaExceeded:
		return codes.ResourceExhausted
	case fault.QueueFull, fault.Unavailable:
		return codes.Unavailable
	case fault.Timeout:
		return codes.DeadlineExceeded
	case fault.Canceled:
		return codes.Canceled
	case fault.Internal:
		return codes.Internal
	}
	return codes.Internal
}

// FaultStatus is err as a gRPC status. An error that is no fault says nothing
// but Internal.
func FaultStatus(err error) error {
	if err == nil {
		return nil
	}
	f := fault.From(err)
	s, detailErr := status.New(Code(f.Kind), f.Detail).WithDetails(
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: f.Kind.String(), Metadata: map[string]string{"code": f.Code, "policy": f.Policy}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(f.Wait())},
	)
	if detailErr != nil {
		return status.Error(codes.Internal, "")
	}
	return s.Err()
}

// StatusFault reads a fault out of a gRPC error. A status without our
// ErrorInfo comes from the transport: Unavailable, and worth another try.
func StatusFault(err error) *fault.Error {
	if err == nil {
		return nil
	}
	s, _ := status.FromError(err)
	f := &fault.Error{Kind: fault.Unavailable, Detail: "the scheduler did not answer; try again", RetryAfter: time.Second, Err: err}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == errorDomain {
				f.Kind, f.Detail = fault.ParseKind(d.Reason), s.Message()
				f.Code, f.Policy = d.Metadata["code"], d.Metadata["policy"]
			}
		case *errdetails.RetryInfo:
			f.RetryAfter = d.RetryDelay.AsDuration()
		}
	}
	return f
}
