package api

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// told is what the limit headers of one answer are made of.
type told struct {
	meters  []*pb.Meter
	plan    account.Plan
	class   class
	refused *fault.Error // nil: the request was not refused
	nowUS   int64        // in the leader's clock, as reset_us is
}

// limitHeaders writes what is left of every limit: RateLimit and
// RateLimit-Policy as draft-ietf-httpapi-ratelimit-headers has them, a list
// with one entry a limit; X-RateLimit-* for the rate that matters most, and
// X-Quota-* for the quota. A limit that nobody told of gets no header. A
// Retry-After that is there already is not left earlier than the limit that
// refused says.
func limitHeaders(h http.Header, t told) {
	if len(t.meters) == 0 {
		return
	}
	var policies, left strings.Builder
	for _, m := range t.meters {
		limit, remaining := max(m.Limit, 0), max(m.Remaining, 0)
		if m.Kind == pb.Meter_KIND_QUOTA {
			limit, remaining = fullCredits(limit), fullCredits(remaining)
		}
		if policies.Len() > 0 {
			policies.WriteString(", ")
			left.WriteString(", ")
		}
		param(&policies, quoted(m.Name), "q", limit)
		param(&left, quoted(m.Name), "r", remaining)
		switch {
		case m.Kind == pb.Meter_KIND_THREADS:
			policies.WriteString(`;qu="concurrent-requests"`)
		default:
			if m.WindowS > 0 {
				param(&policies, "", "w", m.WindowS)
			}
			if m.ResetUs > 0 {
				param(&left, "", "t", t.seconds(m))
			}
		}
		if m.Kind == pb.Meter_KIND_QUOTA {
			set3(h, "X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Resets-At", limit, remaining, m.ResetUs)
		}
	}
	h["Ratelimit-Policy"], h["Ratelimit"] = []string{policies.String()}, []string{left.String()}
	if m := t.rate(); m != nil {
		set3(h, "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", max(m.Limit, 0), max(m.Remaining, 0), m.ResetUs)
	}
	if m := t.refusing(); m != nil && h.Get("Retry-After") != "" {
		if wait, err := strconv.ParseInt(h.Get("Retry-After"), 10, 64); err == nil && wait < t.seconds(m) {
			h.Set("Retry-After", strconv.FormatInt(t.seconds(m), 10))
		}
	}
}

// rate is the limit that X-RateLimit-* are about: the one that refused, if it
// is a rate; else the plan's; else, of the limits of requests of the route's
// class, the one with the least left.
func (t told) rate() *pb.Meter {
	if m := t.refusing(); m != nil && (m.Kind == pb.Meter_KIND_RATE || m.Kind == pb.Meter_KIND_REQUESTS) {
		return m
	}
	var best *pb.Meter
	for _, m := range t.meters {
		switch {
		case m.Kind == pb.Meter_KIND_RATE:
			return m
		case m.Kind == pb.Meter_KIND_REQUESTS && account.LimitsRequests(m.Name, string(t.class)) && (best == nil || m.Remaining < best.Remaining):
			best = m
		}
	}
	return best
}

// quota is that of the plan.
func (t told) quota() *pb.Meter {
	for _, m := range t.meters {
		if m.Kind == pb.Meter_KIND_QUOTA {
			return m
		}
	}
	return nil
}

// refusing is the limit that refused the request.
func (t told) refusing() *pb.Meter {
	if t.refused == nil || t.refused.Policy == "" {
		return nil
	}
	for _, m := range t.meters {
		if m.Name == t.refused.Policy {
			return m
		}
	}
	return nil
}

// seconds is how long it is to the reset of a limit, in whole seconds and
// never too short.
func (t told) seconds(m *pb.Meter) int64 {
	return int64(math.Ceil(float64(max(m.ResetUs-t.nowUS, 0)) / 1e6))
}

// param writes an item with an integer parameter (RFC 9651 section 4.1.1.2).
func param(b *strings.Builder, item, name string, value int64) {
	b.WriteString(item)
	b.WriteByte(';')
	b.WriteString(name)
	b.WriteByte('=')
	b.WriteString(strconv.FormatInt(min(value, 999_999_999_999_999), 10)) // what an integer of a structured field holds
}

// quoted is a name as a string of a structured field. Names are our own and
// hold nothing that needs an escape.
func quoted(name string) string { return `"` + name + `"` }

// set3 sets three headers. Their names are written as http.Header keeps them.
func set3(h http.Header, limitName, remainingName, resetName string, limit, remaining, resetUS int64) {
	h[limitName] = []string{strconv.FormatInt(limit, 10)}
	h[remainingName] = []string{strconv.FormatInt(remaining, 10)}
	if resetUS > 0 {
		h[resetName] = []string{strconv.FormatInt((resetUS+999_999)/1e6, 10)}
	}
}

// seal writes the headers that every answer of a counted route has, when its
// first byte is about to be sent.
func (s *Server) seal(h http.Header, c *call) {
	if c.ctx != nil && len(c.meters.list()) == 0 && c.measured == nil {
		s.measure(c.ctx, c) // it was refused, or answered by the archive, before the leader was asked
	}
	t := told{meters: c.left(), plan: c.plan, class: c.class, refused: c.refused, nowUS: s.front.now()}
	limitHeaders(h, t)
	limitsIn(h, c.plan.Dialect, left{rate: t.rate(), quota: t.quota()})
}
