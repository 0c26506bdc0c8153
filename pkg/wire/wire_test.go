package wire

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestJobRoundTrip(t *testing.T) {
	moment := func(t *rapid.T, name string) time.Time {
		return time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, name)).UTC()
	}
	rapid.Check(t, func(t *rapid.T) {
		yes := rapid.Bool().Draw(t, "billable")
		want := &job.Job{
			ID: job.NewID(), Account: rapid.String().Draw(t, "account"), State: job.Succeeded, Tier: rapid.IntRange(-5, 5).Draw(t, "tier"),
			CreatedAt: moment(t, "created"), StartedAt: moment(t, "started"), FinishedAt: moment(t, "finished"), ExpiresAt: moment(t, "expires"),
			Attempts: rapid.IntRange(0, 3).Draw(t, "attempts"), Cached: rapid.Bool().Draw(t, "cached"), Billable: &yes,
			CustomID: rapid.String().Draw(t, "custom"), Metadata: map[string]string{"k": rapid.String().Draw(t, "meta")}, Options: []byte(`{}`),
			Result: &job.Result{
				Object: "r/x", ContentType: "image/png", Width: 1, Height: 2, Pages: 3, SizeBytes: rapid.Int64Min(0).Draw(t, "size"),
				SHA256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
			},
			Timings:  &job.Timings{QueueMS: 1, NavigateMS: 2, WaitMS: 3, CaptureMS: 4, UploadMS: 5, TotalMS: 6},
			Evidence: &job.Evidence{Title: "t", StatusCode: 404, Redirects: []string{"a"}, BlockedRequests: []job.Resource{{URL: "u", Reason: "r"}}},
		}
		b, err := proto.Marshal(Job(want))
		if err != nil {
			t.Fatal(err)
		}
		p := new(pb.Job)
		if err := proto.Unmarshal(b, p); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, FromJob(p)); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	})
}

func TestUnfinishedJobHasNoBill(t *testing.T) {
	if j := FromJob(Job(&job.Job{ID: job.NewID(), State: job.Queued})); j.Billable != nil || !j.FinishedAt.IsZero() {
		t.Errorf("%+v", j)
	}
}

func TestFailureOfAnUnknownCode(t *testing.T) {
	if f := FromFailure(&pb.Failure{Code: "from_a_newer_worker", Detail: "100%"}); f.Code != job.Internal || f.Detail != "100%" {
		t.Errorf("%+v", f)
	}
}

// TestEveryKindTravels is the map's table: each kind has a gRPC code and comes
// back as itself, with its wait and without its cause.
func TestEveryKindTravels(t *testing.T) {
	want := map[fault.Kind]codes.Code{
		fault.Internal: codes.Internal, fault.Invalid: codes.InvalidArgument, fault.Unauthenticated: codes.Unauthenticated,
		fault.Forbidden: codes.PermissionDenied, fault.Blocked: codes.PermissionDenied, fault.NotFound: codes.NotFound,
		fault.Conflict: codes.Aborted, fault.Gone: codes.NotFound, fault.TooLarge: codes.InvalidArgument,
		fault.KeyReused: codes.FailedPrecondition, fault.RenderFailed: codes.FailedPrecondition,
		fault.RateLimited: codes.ResourceExhausted, fault.ThreadsFull: codes.ResourceExhausted, fault.QuotaExceeded: codes.ResourceExhausted,
		fault.QueueFull: codes.Unavailable, fault.Unavailable: codes.Unavailable,
		fault.Timeout: codes.DeadlineExceeded, fault.Canceled: codes.Canceled,
	}
	for _, kind := range fault.Kinds() {
		sent := &fault.Error{Kind: kind, Code: "c", Detail: "d", Policy: "p", RetryAfter: 1500 * time.Millisecond, Err: errors.New("secret")}
		err := FaultStatus(sent)
		if got := status.Code(err); got != want[kind] {
			t.Errorf("%s travels as %s, want %s", kind, got, want[kind])
		}
		for how, got := range map[string]*fault.Error{"status": StatusFault(err), "message": FromFault(Fault(sent))} {
			got.Err = nil
			if diff := cmp.Diff(&fault.Error{Kind: kind, Code: "c", Detail: "d", Policy: "p", RetryAfter: 1500 * time.Millisecond}, got); diff != "" {
				t.Errorf("%s by %s (-want +got):\n%s", kind, how, diff)
			}
		}
	}
	if got := StatusFault(status.Error(codes.Unavailable, "connection refused")); got.Kind != fault.Unavailable || got.Wait() != time.Second {
		t.Errorf("the transport's own error became %+v", got)
	}
	if err := FaultStatus(errors.New("secret")); status.Convert(err).Message() != "" {
		t.Errorf("an error that is no fault says %q", status.Convert(err).Message())
	}
}
