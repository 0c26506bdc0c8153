package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Reasons of charges that are not a job's.
const (
	reasonCall     = "call"
	reasonDownload = "download"
	reasonLost     = "lost"
)

// codeLost is that of a fault which names, as job_id, a job whose stored bytes
// are not those that were rendered.
const codeLost = "artifact_lost"

// bill is what one request costs in a plan whose quota counts calls.
type bill struct {
	charged int64 // of the request so far, in 1/120 credit
	reason  string
	// bytes says that the price depends on what is sent: it is charged when that
	// is known.
	bytes bool
	// cached says that the render of a signed link came from the cache.
	cached bool
}

// atOnce is what the request costs before anything is known of its answer.
func (b *bill) atOnce(rt *route, p account.Plan) int64 {
	if rt.class != classAPI && rt.class != classMedia {
		return 0
	}
	if p.Quota.Unit == account.UnitCredit && rt.sends() {
		b.bytes = true
		return 0
	}
	return p.Quota.CallUnits()
}

// download charges for an artifact that is about to be sent.
func (s *Server) download(ctx context.Context, c *call, size int64) error {
	if !c.bill.bytes {
		return nil
	}
	err := s.report(ctx, c, c.who.charge(c.plan.Quota.DownloadUnits(size), reasonDownload))
	if err == nil {
		c.bill.bytes = false
	}
	return err
}

// sentBeside charges for an artifact that is about to be sent among others,
// where downloads are charged by their size.
func (s *Server) sentBeside(ctx context.Context, c *call, size int64) error {
	if c.plan.Quota.Unit != account.UnitCredit {
		return nil
	}
	return s.report(ctx, c, c.who.charge(c.plan.Quota.DownloadUnits(size), reasonDownload))
}

// charge is the message that an account is to be charged.
func (w caller) charge(units int64, reason string) *pb.Count {
	return &pb.Count{Address: w.address, Key: w.key, Account: w.account, Units: units, Reason: reason}
}

// settle charges what is still to be charged of a request that was answered,
// and gives back what it was charged for nothing. Nobody waits for it.
func (s *Server) settle(c *call, status int) {
	due, reason := c.bill.charged, c.bill.reason
	switch {
	case forNothing(status, c.refused):
		due = 0
	case c.bill.bytes: // it sent none: it is a call like others
		due, reason = c.plan.Quota.CallUnits(), reasonCall
	case c.bill.cached:
		due = c.plan.Quota.LinkUnits()
	}
	if more := due - c.bill.charged; more != 0 {
		s.front.report(func(up *pb.FrontUp) { up.Counts = append(up.Counts, c.who.charge(more, reason)) })
	}
	if c.refused != nil && c.refused.Code == codeLost {
		if id, ok := c.refused.Extra["job_id"].(job.ID); ok {
			s.giveBack(c, id)
		}
	}
}

// giveBack reports that what a job cost is to be given back, since its artifact
// is lost. The archive says what that was, and whether it was given back before;
// a job whose charge is not there yet the leader knows by itself. What does not
// get through is reported when the artifact is asked for again.
func (s *Server) giveBack(c *call, id job.ID) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	paid, err := s.deps.Store.JobCharge(ctx, c.who.account, id)
	if err != nil {
		s.log.Warn("what a lost artifact cost is not given back yet", "job", id, "account", c.who.account, "err", err)
		return
	}
	if paid.GivenBack {
		return
	}
	lost := c.who.charge(-paid.Units, reasonLost)
	lost.Event = lostPrefix + string(id)
	if paid.Units != 0 {
		lost.Period = account.DayNumber(paid.Period)
	}
	s.front.report(func(up *pb.FrontUp) { up.Counts = append(up.Counts, lost) })
}

// forNothing reports an answer that costs nothing: the farm's own failure, or
// a refusal for a limit.
func forNothing(status int, refused *fault.Error) bool {
	switch {
	case status == 0, status >= http.StatusInternalServerError, status == http.StatusTooManyRequests, status == http.StatusPaymentRequired:
		return true
	case refused == nil:
		return false
	}
	switch refused.Kind {
	case fault.Blocked, fault.RateLimited, fault.ThreadsFull, fault.QuotaExceeded, fault.QueueFull, fault.Unavailable, fault.Timeout, fault.Internal:
		return true // whatever status a dialect gives it
	}
	return refused.Code == "banned" || refused.Code == codeLost
}
