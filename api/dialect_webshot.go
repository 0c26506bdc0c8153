package api

import (
	_ "embed"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/tintype/tintype/pkg/fault"
)

// webshot answers who is throttled with a tiny picture, which costs nothing to
// send, or with JSON where that is asked for. Everything else is Tintype's.
type webshot struct{ plain }

// throttledPicture says "rate limit reached". It was drawn once; nobody renders
// it.
//
//go:embed throttled.png
var throttledPicture []byte

func (webshot) face(_ *fault.Error, ours face) face { return ours }

func (webshot) say(q refusalOf) said {
	asked := q.request.Header.Values("Accept")
	if q.Kind == fault.RateLimited && !wantsJSON(asked) {
		return said{contentType: "image/png", body: throttledPicture}
	}
	to := sayProblem(q)
	if q.Kind == fault.RateLimited && !accepts(asked, "application/problem+json") {
		to.contentType = "application/json"
	}
	return to
}

func (webshot) limits(h http.Header, _ left) {
	respell(h, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
}

// wantsJSON reports whether JSON was asked for by name, and no picture more
// than that. */* and image/* are for pictures, which are what is served here.
func wantsJSON(accept []string) bool {
	json := max(weight(accept, "application/json"), weight(accept, "application/problem+json"))
	return json > 0 && json >= max(weight(accept, "image/png"), weight(accept, "image/*"))
}

func accepts(accept []string, mediaType string) bool { return weight(accept, mediaType) > 0 }

// weight is how much a media range is wanted that an Accept header names
// (RFC 9110 section 12.5.1), from 0, not at all, to 1.
func weight(accept []string, mediaRange string) float64 {
	best := 0.0
	for _, line := range accept {
		for one := range strings.SplitSeq(line, ",") {
			name, params, err := mime.ParseMediaType(one)
			if err != nil || name != mediaRange {
				continue
			}
			q := 1.0
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
					continue
				}
			}
			best = max(best, q)
		}
	}
	return best
}
