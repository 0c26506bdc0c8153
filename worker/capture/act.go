package capture

import (
	"context"

	"github.com/tintype/tintype/pkg/job"
)

// act does to a loaded page what the job asks for.
func (a *attempt) act(context.Context) *job.Failure { return nil }
