package capture

import (
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// webpScript is called with (a PNG in base64, quality 0..1) and returns the
// picture as WebP in base64.
//
//go:embed webp.js
var webpScript string

// webp has the browser write a PNG of our own as WebP: there is no writer of
// lossy WebP in Go to be had. It works in a world of its own, out of the page's
// reach, and its policies do not hold there.
func (a *attempt) webp(ctx context.Context, png []byte) ([]byte, *job.Failure) {
	const most = 96 << 20 // more would not pass the pipe well
	if len(png) > most {
		return nil, job.Fail(job.PageTooLarge, job.StageCapture, "the picture has too much detail to be put together as webp: give max_height, or ask for format png or jpeg")
	}
	var text string
	a.hold(ctx) // what is written is ours, but the page lends its process
	err := a.evaluate(ctx, fmt.Sprintf("(%s)(%q, %g)", strings.TrimSpace(webpScript), base64.StdEncoding.EncodeToString(png), float64(a.spec.Quality)/100),
		time.Duration(math.MaxInt64), &text)
	if err != nil {
		return nil, a.broken(ctx, job.StageCapture, err)
	}
	body, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(body) == 0 {
		return nil, a.unreadable(err)
	}
	return body, nil
}
