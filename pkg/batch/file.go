package batch

import (
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/job"
)

// A File is an upload that batches may be made of.
type File struct {
	ID        string // file_ and 26 Crockford characters
	Account   string
	Name      string // as it was sent; may be empty
	Object    string
	SizeBytes int64
	SHA256    []byte
	CreatedAt time.Time
	ExpiresAt time.Time
}

// NewFileID makes a fresh id.
func NewFileID() string { return "file_" + job.EncodeBase32(uuid.Must(uuid.NewV7())) }
