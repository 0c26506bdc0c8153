package account

import "strings"

// The names of limits, in refusals and in headers: it is by them that an API
// replica knows which limit the leader speaks of.
const (
	LimitRate    = "rate"
	LimitQuota   = "quota"
	LimitThreads = "threads"
	LimitCooling = "cooling" // a step of the abuse ladder
)

const limitRequests = "requests"

// Name is the name of a limit of requests, such as requests-api-ip.
func (l HTTPLimit) Name() string { return limitRequests + "-" + l.Class + "-" + string(l.By) }

// LimitsRequests reports whether a limit of this name is one of requests of a
// class; of any class where that is empty.
func LimitsRequests(name, class string) bool {
	prefix := limitRequests + "-"
	if class != "" {
		prefix += class + "-"
	}
	return strings.HasPrefix(name, prefix)
}
