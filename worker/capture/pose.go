package capture

import (
	"context"

	"github.com/tintype/tintype/pkg/job"
)

// pose sets what the page finds itself in before it is opened: its media, its
// colours, its clock.
func (a *attempt) pose(context.Context) *job.Failure { return nil }
