package capture

import (
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/picture"
)

// What the API takes for a JPEG, whoever writes one must be able to.
func TestLongestJPEG(t *testing.T) {
	if _, side := job.JPEG.Bounds(); side != picture.MaxJPEG {
		t.Errorf("a JPEG of %d pixels a side is accepted, and one of %d is written", side, picture.MaxJPEG)
	}
}
