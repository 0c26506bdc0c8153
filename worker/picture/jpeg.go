package picture

import (
	"image"
	"image/color"
	"image/jpeg"
)

// A JPEG is a Writer of JPEG files. It keeps the pixels as they will be in the
// file, with colours at half the resolution.
type JPEG struct {
	rows
	file    file
	pixels  *image.YCbCr
	quality int
}

// MaxJPEG is the longest side of a JPEG: its header has 16 bits for it.
const MaxJPEG = 1<<16 - 1

// NewJPEG starts a file of at most limit bytes.
func NewJPEG(width, height, quality, limit int) *JPEG {
	return &JPEG{
		rows: rows{width: width, height: height}, file: file{limit: limit}, quality: quality,
		pixels: image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420),
	}
}

// Write implements Writer.
func (j *JPEG) Write(band *image.NRGBA) error {
	top := j.done
	if err := j.take(band); err != nil {
		return err
	}
	m := j.pixels
	for y := range band.Rect.Dy() {
		from := band.Pix[y*band.Stride:][:4*j.width]
		luma := m.Y[(top+y)*m.YStride:][:j.width]
		at := (top + y) / 2 * m.CStride
		cbs, crs := m.Cb[at:][:m.CStride], m.Cr[at:][:m.CStride]
		first := (top+y)%2 == 0
		for x := 0; x < j.width; x += 2 {
			y0, cb, cr := onWhite(from[4*x:])
			luma[x] = y0
			if x+1 < j.width {
				y1, cb1, cr1 := onWhite(from[4*x+4:])
				luma[x+1] = y1
				cb, cr = mean(cb, cb1), mean(cr, cr1)
			}
			if !first { // the row above has written its half
				cb, cr = mean(cbs[x/2], cb), mean(crs[x/2], cr)
			}
			cbs[x/2], crs[x/2] = cb, cr
		}
	}
	return nil
}

func mean(a, b uint8) uint8 { return uint8((int(a) + int(b) + 1) / 2) }

// onWhite is a pixel in the colours of JFIF, with white behind it.
func onWhite(p []byte) (y, cb, cr uint8) {
	r, g, b, a := int(p[0]), int(p[1]), int(p[2]), int(p[3])
	if a != 255 {
		r, g, b = (r*a+255*(255-a)+127)/255, (g*a+255*(255-a)+127)/255, (b*a+255*(255-a)+127)/255
	}
	return color.RGBToYCbCr(uint8(r), uint8(g), uint8(b))
}

// Close implements Writer.
func (j *JPEG) Close() ([]byte, error) {
	if err := j.end(); err != nil {
		return nil, err
	}
	if err := jpeg.Encode(&j.file, j.pixels, &jpeg.Options{Quality: j.quality}); err != nil {
		return nil, err
	}
	return j.file.body.Bytes(), nil
}
