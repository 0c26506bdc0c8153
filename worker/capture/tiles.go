package capture

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"math"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/picture"
)

const (
	// maxOne is the largest picture, in device pixels, that is captured in one
	// piece when it may be put together of tiles: as noise that nothing
	// compresses it is just within what the browser's pipe takes at once.
	maxOne = 40_000_000
	// maxTile is the largest tile, and tileSide its longest side. Chromium needs
	// some 15 bytes a pixel, and this process 12 while one is put together and
	// the next is read.
	maxTile  = 4_000_000
	tileSide = 8192
	// maxFile bounds a picture that is put together, in bytes.
	maxFile = 200 << 20
)

// oneShot reports whether the browser can make the whole picture right at once.
func (r region) oneShot() bool {
	return r.viewport || max(r.w, r.h) <= job.MaxSide && r.w*r.h <= maxOne
}

// tile is the size of the tiles of a region.
func (r region) tile() (w, h int) {
	w = min(r.w, tileSide)
	h = min(r.h, tileSide, max(16, maxTile/w/16*16))
	return w, h
}

// pixels captures the region and writes its pixels, tile by tile. While a band
// of tiles is written, the next is captured. missing are the page's frames, if
// some are to be put in yet; patches are pictures of those that were captured.
func (a *attempt) pixels(ctx context.Context, r region, to picture.Writer, missing []frame, patches []patch) *job.Failure {
	if r.oneShot() {
		all, fail := a.tile(ctx, r, 0, 0, r.w, r.h)
		if fail == nil && missing != nil {
			patches, fail = a.patches(ctx, r, missing, a.end)
		}
		if fail != nil {
			return fail
		}
		mend(all, 0, patches)
		return a.unwritten(to.Write(all))
	}
	a.pieces = true
	a.hold(ctx) // a tile of another document would not fit
	width, height := r.tile()
	return a.bands(to, func(write func(*image.NRGBA) bool) *job.Failure {
		for y := 0; y < r.h; y += height {
			band, fail := a.band(ctx, r, y, min(height, r.h-y), width)
			if fail != nil {
				return fail
			}
			mend(band, y, patches)
			if !write(band) {
				break
			}
		}
		return nil
	})
}

// band is height rows of a region from y on, captured in tiles of that width.
func (a *attempt) band(ctx context.Context, r region, y, height, width int) (*image.NRGBA, *job.Failure) {
	band := image.NewNRGBA(image.Rect(0, 0, r.w, height))
	for x := 0; x < r.w; x += width {
		tile, fail := a.tile(ctx, r, x, y, min(width, r.w-x), height)
		if fail != nil {
			return nil, fail
		}
		picture.Paste(band, x, tile)
	}
	return band, nil
}

// bands runs each, and writes what it gives on another goroutine, one band
// behind. write is false when no more is wanted.
func (a *attempt) bands(to picture.Writer, each func(write func(*image.NRGBA) bool) *job.Failure) *job.Failure {
	queue, failed := make(chan *image.NRGBA), make(chan error, 1)
	go func() {
		var err error
		for band := range queue {
			if err == nil {
				err = to.Write(band)
			}
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}
		close(failed)
	}()
	var err error
	fail := each(func(band *image.NRGBA) bool {
		select {
		case err = <-failed:
			return false
		case queue <- band:
			return true
		}
	})
	close(queue)
	for e := range failed {
		err = errors.Join(err, e)
	}
	if fail != nil {
		return fail
	}
	return a.unwritten(err)
}

// tile captures a part of a region: of the viewport always all.
func (a *attempt) tile(ctx context.Context, r region, x, y, w, h int) (*image.NRGBA, *job.Failure) {
	if time.Until(a.end) <= 0 {
		return nil, a.tooSlow(r, y)
	}
	clip := r.clip(x, y, w, h)
	if r.viewport {
		clip = nil
	}
	body, fail := a.snap(ctx, job.PNG, clip, false)
	switch {
	case fail != nil && fail.Code == job.CaptureTimeout && a.pieces && !a.replaced:
		return nil, a.tooSlow(r, y) // most often it is the number of the tiles that takes so long
	case fail != nil:
		return nil, fail
	}
	img, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		return nil, a.unreadable(err)
	}
	if got := img.Bounds(); got.Dx() != w || got.Dy() != h {
		a.odd = "protocol"
		return nil, job.Fail(job.Internal, job.StageCapture, "the browser sent %d by %d pixels for a tile of %d by %d", got.Dx(), got.Dy(), w, h)
	}
	return picture.Pixels(img), nil
}

// tooSlow is the end of a picture of which that many rows were captured when
// the time was over.
func (a *attempt) tooSlow(r region, rows int) *job.Failure {
	out := "raise timeout_ms, or capture less of the page: "
	switch s := a.spec; {
	case r.whole && !s.SkipScroll && s.FullPageMode != "stitch":
		out += "give max_height, or skip_scroll, which leaves more of the time"
	case r.whole:
		out += "give max_height"
	default:
		out += "lower device_scale_factor, or choose a smaller part"
	}
	return job.Fail(job.CaptureTimeout, job.StageCapture,
		"the picture is %d by %d device pixels, and %d of its rows were captured when the time was over: %s", r.w, r.h, rows, out)
}

// unwritten is a failure to put a picture together.
func (a *attempt) unwritten(err error) *job.Failure {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, picture.ErrTooLong):
		return job.Fail(job.PageTooLarge, job.StageCapture,
			"the picture's file is longer than %d MB: give max_height, lower width or device_scale_factor, or ask for format jpeg", maxFile>>20)
	}
	return job.Fail(job.Internal, job.StageCapture, "the picture could not be put together: %v", err)
}

// stitch scrolls through the page and captures it view by view, for pages that
// have only what is in view. What stands still is in the first view alone.
func (a *attempt) stitch(ctx context.Context, r region, to picture.Writer) *job.Failure {
	a.pieces = true
	a.hold(ctx)
	height := a.spec.DevicePixels(float64(a.spec.Height))
	return a.bands(to, func(write func(*image.NRGBA) bool) *job.Failure {
		for y := 0; y < r.h; {
			view := "once"
			if y == 0 {
				view = ""
			}
			var calm time.Duration
			if !a.spec.Deterministic { // then nothing moves
				views := (r.h - y + height - 1) / height
				calm = min(calmLimit, max(time.Until(a.end)/time.Duration(2*views), 0))
			}
			at, err := a.standCalm(ctx, float64(y)/r.scale, a.end, view, calm)
			switch {
			case err != nil:
				if fail := a.unready(ctx, err); fail != nil {
					return fail
				}
			case !at.Still:
				a.late("animations")
			}
			rows := min(height, r.h-y)
			band, fail := a.view(ctx, r, y, rows, int(math.Round(float64(y)-at.Top*r.scale)))
			if fail == nil && band == nil {
				band, fail = a.band(ctx, r, y, rows, tileSide)
			}
			if fail != nil {
				return fail
			}
			if !write(band) {
				break
			}
			y += band.Rect.Dy()
		}
		return nil
	})
}

// view captures rows of a region from y on as the viewport shows them, below of
// them beneath its top; nil when it does not show them as they are. Of a clip the
// browser makes a view that is as high as the clip's end, if that is higher: what
// is as high as the view can grow under it, and what is fixed can be gone.
func (a *attempt) view(ctx context.Context, r region, y, rows, below int) (*image.NRGBA, *job.Failure) {
	w, h := a.spec.DevicePixels(float64(a.spec.Width)), a.spec.DevicePixels(float64(a.spec.Height))
	if scale := a.spec.DeviceScaleFactor; float64(w) != float64(a.spec.Width)*scale || float64(h) != float64(a.spec.Height)*scale {
		return nil, nil // by itself the browser leaves out what is less than a pixel
	}
	if r.w != w || r.zoom != 1 || w*h > maxOne || below < 0 || below+rows > h {
		return nil, nil
	}
	r.viewport = true
	all, fail := a.tile(ctx, r, 0, y, w, h)
	if fail != nil {
		return nil, fail
	}
	return &image.NRGBA{Pix: all.Pix[below*all.Stride:], Stride: all.Stride, Rect: image.Rect(0, 0, w, rows)}, nil
}
