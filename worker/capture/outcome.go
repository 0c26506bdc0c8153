package capture

import "github.com/tintype/tintype/pkg/job"

// An Outcome is what one attempt came to. Exactly one of Artifact and Failure
// is set; the evidence and the timings are there in both cases, as far as the
// attempt got.
type Outcome struct {
	Artifact *Artifact
	Failure  *job.Failure
	Evidence *job.Evidence
	Timings  job.Timings // QueueMS and UploadMS are the caller's
}

// An Artifact is a rendered page, ready to be stored.
type Artifact struct {
	Body   []byte
	Width  int // device px; 0 for documents
	Height int
	Pages  int // of a PDF; 0 for pictures
}
