package capture

import (
	"context"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// pose sets what the page finds itself in before it is opened: its media, its
// colours, its clock.
func (a *attempt) pose(ctx context.Context) *job.Failure {
	if fail := a.poseMedia(ctx); fail != nil {
		return fail
	}
	if fail := a.fixClock(ctx); fail != nil {
		return fail
	}
	return a.dress(ctx)
}

// poseMedia sets what media queries of the page see. Without a word of the job
// it makes no call.
func (a *attempt) poseMedia(ctx context.Context) *job.Failure {
	media := a.media()
	if media.Media == "" && media.Features == nil {
		return nil
	}
	return a.tell(ctx, []proto.Request{media}) // frames in processes of their own do not see what the page sees
}

// media is what the job wants media queries to see.
func (a *attempt) media() proto.EmulationSetEmulatedMedia {
	media := proto.EmulationSetEmulatedMedia{Media: a.spec.Media}
	if a.spec.DarkMode {
		media.Features = append(media.Features, &proto.EmulationMediaFeature{Name: "prefers-color-scheme", Value: "dark"})
	}
	if a.spec.ReducedMotion {
		media.Features = append(media.Features, &proto.EmulationMediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	}
	return media
}
