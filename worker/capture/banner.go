package capture

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// consentScript rejects what cookie banners ask for; see autoconsent/README.md.
// It runs in the page's own world, where the scripts of banners are: a page that
// knows of it can keep its banner, and nothing more.
//
//go:embed autoconsent/autoconsent.standalone.js
var consentScript string

const (
	bannerLimit  = 8 * time.Second // for a banner that was found to go away
	bannerAppear = 2 * time.Second // for one to appear once the page has loaded
)

// reject has the banners of the page and of its frames rejected.
func (a *attempt) reject(ctx context.Context) *job.Failure {
	if !a.spec.HideCookieBanners {
		return nil
	}
	return a.tell(ctx, []proto.Request{proto.PageAddScriptToEvaluateOnNewDocument{Source: consentScript}})
}

// rejected waits until a banner has gone, or none has come. It is no failure
// when one stays.
func (a *attempt) rejected(waits context.Context) {
	if !a.spec.HideCookieBanners {
		return
	}
	limit := min(time.Until(a.loadEnd), bannerLimit)
	if limit <= 0 {
		return
	}
	proto.RuntimeEvaluate{
		Expression: fmt.Sprintf(`new Promise(done => {
			const start = performance.now(), look = () => {
				const said = (window.autoconsentStandalone?.messages ?? []).map(m => m.type);
				const took = performance.now() - start;
				if (said.includes('autoconsentDone') || said.includes('autoconsentError')) setTimeout(() => requestAnimationFrame(() => done(0)), 100);
				else if (took > %d || took > %d && !said.includes('cmpDetected')) done(0);
				else setTimeout(look, 50);
			};
			look();
		})`, limit.Milliseconds(), min(limit, bannerAppear).Milliseconds()),
		AwaitPromise: true, ReturnByValue: true,
	}.Call(a.tab.Within(waits, limit+200*time.Millisecond))
}
