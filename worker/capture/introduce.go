package capture

import (
	"context"

	"github.com/tintype/tintype/pkg/job"
)

// introduce sets who the browser is to the page's server, and what it will not
// load.
func (a *attempt) introduce(context.Context) *job.Failure { return nil }
