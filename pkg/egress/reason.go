package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/tintype/tintype/pkg/job"
)

// A Reason says why a request did not get its answer. The list is closed.
type Reason string

const (
	Refused      Reason = "address_refused"    // the Guard does not allow the destination
	NotResolved  Reason = "name_not_resolved"  // the name has no address, or the resolver did not answer
	ConnRefused  Reason = "connection_refused" // nothing listens there, or there is no way to it
	ConnReset    Reason = "connection_reset"   // the connection was made and broke
	TimedOut     Reason = "timed_out"          // no connection within the dial timeout
	NoAnswer     Reason = "empty_response"     // connected, but what came is no HTTP answer
	OverLimit    Reason = "over_limit"         // the job spent its requests, bytes or connections
	ProxyRefused Reason = "proxy_refused"      // the Guard does not allow the job's own proxy
	ProxyFailed  Reason = "proxy_failed"       // the job's own proxy is not to be had, or does not let the request through

	// What the job itself did not want.
	BlockedAd      Reason = "block_ads"
	BlockedTracker Reason = "block_trackers"
	BlockedURL     Reason = "block_urls"
	BlockedType    Reason = "block_resources"
)

// Blocked reports a request that was not let out, in contrast to one that
// went out and failed.
func (r Reason) Blocked() bool {
	return r == Refused || r == OverLimit || r == ProxyRefused || r.Unwanted()
}

// Unwanted reports a request that the job itself blocks.
func (r Reason) Unwanted() bool {
	return r == BlockedAd || r == BlockedTracker || r == BlockedURL || r == BlockedType
}

// Code is the failure of a job whose own page met this reason.
func (r Reason) Code() job.Code {
	switch r {
	case Refused, ProxyRefused, BlockedAd, BlockedTracker, BlockedURL, BlockedType:
		return job.AddressRefused
	case NotResolved:
		return job.NameNotResolved
	case ConnRefused, ProxyFailed:
		return job.ConnectionRefused
	case ConnReset:
		return job.ConnectionReset
	case TimedOut:
		return job.NavigationTimeout
	case NoAnswer:
		return job.EmptyResponse
	case OverLimit:
		return job.PageTooLarge
	}
	return job.Internal
}

// Words say what happened at host, and the way out where there is one.
func (r Reason) Words(host string) string {
	switch r {
	case Refused:
		return fmt.Sprintf("%s is not a destination that pages may reach: only public addresses on the ports 80, 443, 8080 and 8443 are, unless the operator allows more with --egress-allow", host)
	case NotResolved:
		return fmt.Sprintf("the name of %s could not be resolved", host)
	case ConnRefused:
		return fmt.Sprintf("%s refused the connection or cannot be reached", host)
	case ConnReset:
		return fmt.Sprintf("%s broke the connection off", host)
	case TimedOut:
		return fmt.Sprintf("%s did not accept a connection in time", host)
	case NoAnswer:
		return fmt.Sprintf("%s did not send a valid HTTP answer", host)
	case OverLimit:
		return fmt.Sprintf("the page asked for more than a job may load (%d requests, %d MB)", MaxRequests, MaxDown>>20)
	case ProxyRefused:
		return fmt.Sprintf("the proxy that the job names is not one that may be used: only public addresses on the ports %s are, unless the operator allows more with --egress-allow", portList(upstreamPorts))
	case ProxyFailed:
		return fmt.Sprintf("the proxy that the job names cannot be reached, refuses its user and password, or gives no way to %s", host)
	case BlockedAd, BlockedTracker, BlockedURL, BlockedType:
		return fmt.Sprintf("%s is not loaded because the job says %s", host, r)
	}
	return fmt.Sprintf("%s could not be reached", host)
}

// An Error is a dial that failed. Its text names the host that was asked for
// and never an address it resolved to; Err holds the details for the log.
type Error struct {
	Reason Reason
	Host   string // HOST:PORT as asked for
	Err    error  // may be nil
}

func (e *Error) Error() string { return e.Reason.Words(e.Host) }
func (e *Error) Unwrap() error { return e.Err }

var errRefusedAtSocket = errors.New("the socket's address is not the one that was judged")

// wrap types the error of a dial or of an exchange with host.
func wrap(host string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	r := NoAnswer
	var ne net.Error
	switch {
	case errors.Is(err, errRefusedAtSocket):
		r = Refused
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		r = ConnRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		r = ConnReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		r = NoAnswer
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		r = TimedOut
	}
	return &Error{Reason: r, Host: host, Err: err}
}

// portList is ports as text.
func portList(ports []uint16) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p))
	}
	return strings.Join(words, ", ")
}
