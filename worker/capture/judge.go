package capture

import (
	"context"

	"github.com/tintype/tintype/pkg/job"
)

// judge holds a page that is ready against what the job calls a failure.
func (a *attempt) judge(context.Context) *job.Failure {
	return a.judgeStatus()
}

// judgeStatus holds the status of the document that stands there now: a page
// that led on to another one has that one's.
func (a *attempt) judgeStatus() *job.Failure {
	status := a.track.document().status
	class, name := status/100, ""
	switch {
	case class == 4 && a.spec.FailOn4xx:
		name = "fail_on_4xx"
	case class == 5 && a.spec.FailOn5xx:
		name = "fail_on_5xx"
	default:
		return nil
	}
	return job.Fail(job.FailOn, job.StageWait, "the page's status is %d and %s is set", status, name)
}
