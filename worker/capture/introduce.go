package capture

import (
	"context"
	"slices"
	"strings"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

// introduce sets who the browser is to the page's server, and what it will not
// load. A job that asks for none of it makes no call here.
func (a *attempt) introduce(ctx context.Context) *job.Failure {
	for _, step := range []func(context.Context) *job.Failure{a.detour, a.identify, a.appear, a.remember, a.reject, a.guard} {
		if fail := step(ctx); fail != nil {
			return fail
		}
	}
	return nil
}

// detour sends what the page asks for through the job's own proxy.
func (a *attempt) detour(context.Context) *job.Failure {
	if a.spec.Secrets.Proxy == "" {
		return nil
	}
	up, err := job.ParseUpstream(a.spec.Secrets.Proxy)
	if err != nil { // the API let none such pass
		return job.Fail(job.Internal, job.StageNavigate, "the proxy of the job cannot be read")
	}
	a.proxy.Through(up)
	return nil
}

// identify sets what the browser says of itself: its name, its languages, its
// clock's zone. Frames of other sites and workers are told as well, since they
// would otherwise give the page away.
func (a *attempt) identify(ctx context.Context) *job.Failure {
	var calls []proto.Request
	agent, langs := a.spec.UserAgent, job.Languages(a.spec.AcceptLang)
	if agent != "" || len(langs) > 0 {
		calls = append(calls, impersonate(agent, langs))
	}
	if len(langs) > 0 {
		calls = append(calls, proto.EmulationSetLocaleOverride{Locale: job.Locale(langs[0])})
	}
	if a.spec.TZ != "" {
		calls = append(calls, proto.EmulationSetTimezoneOverride{TimezoneID: a.spec.TZ})
	}
	return a.tell(ctx, calls)
}

// tell makes calls to the page, and to each frame and worker of it that is a
// target of its own.
func (a *attempt) tell(ctx context.Context, calls []proto.Request) *job.Failure {
	if len(calls) == 0 {
		return nil
	}
	a.tab.Follow(func(kind browser.Kind) []proto.Request {
		return slices.DeleteFunc(slices.Clone(calls), func(call proto.Request) bool {
			switch call := call.(type) {
			case proto.EmulationSetUserAgentOverride: // of a service worker Chromium changes the hints and not the name
				return kind == browser.ServiceTarget && call.UserAgent != ""
			case proto.EmulationSetEmulatedMedia, proto.EmulationSetTouchEmulationEnabled:
				return kind != browser.FrameTarget
			}
			return false
		})
	})
	for _, call := range calls {
		if fail := a.before(ctx, func(c proto.Client) error { return a.tab.Do(c, call) }); fail != nil {
			return fail
		}
	}
	return nil
}

// appear puts the browser somewhere, and lets pages ask where.
func (a *attempt) appear(ctx context.Context) *job.Failure {
	if a.spec.Latitude == nil || a.spec.Longitude == nil {
		return nil
	}
	accuracy := 10.0
	if a.spec.Accuracy != nil {
		accuracy = *a.spec.Accuracy
	}
	fail := a.before(ctx, func(proto.Client) error {
		return proto.BrowserGrantPermissions{
			BrowserContextID: a.tab.Context(), Permissions: []proto.BrowserPermissionType{proto.BrowserPermissionTypeGeolocation},
		}.Call(a.tab.Root(ctx, freshLimit))
	})
	if fail != nil {
		return fail
	}
	return a.tell(ctx, []proto.Request{proto.EmulationSetGeolocationOverride{Latitude: a.spec.Latitude, Longitude: a.spec.Longitude, Accuracy: &accuracy}})
}

// remember gives the browser the job's cookies. It has no others.
func (a *attempt) remember(ctx context.Context) *job.Failure {
	var list []*proto.NetworkCookieParam
	for _, line := range a.spec.Secrets.Cookies {
		c, err := job.ParseCookie(line)
		if err != nil { // the API let no such line pass
			return job.Fail(job.Internal, job.StageNavigate, "a cookie of the job cannot be read")
		}
		p := &proto.NetworkCookieParam{
			Name: c.Name, Value: c.Value, Path: c.Path, Secure: c.Secure, HTTPOnly: c.HTTPOnly,
			SameSite: proto.NetworkCookieSameSite(c.SameSite),
		}
		if p.Domain = c.Domain; c.Domain == "" {
			p.URL = a.spec.URL
			if rest, plain := strings.CutPrefix(p.URL, "http://"); plain && c.Secure {
				p.URL = "https://" + rest // over http browsers take no such cookie
			}
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil
	}
	return a.before(ctx, proto.NetworkSetCookies{Cookies: list}.Call)
}
