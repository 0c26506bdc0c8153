package capture

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

const (
	maxEvents  = 10_000 // network events of one job that are looked at
	maxDialogs = 100    // dialogs of one job that are dismissed
	maxNoted   = 50     // entries of each list of the evidence
	maxTracked = 500    // frames whose URLs are known
	maxURL     = 2 << 10
)

// A tracker folds the tab's events into what a render must know: which
// document stands in the main frame, how far it is, and what went wrong on
// the way. handle runs on the browser's reader; everything else on the
// attempt's goroutine.
type tracker struct {
	frame   proto.PageFrameID
	dialogs chan dialog
	paused  chan proto.FetchRequestID // main documents asked for while the page is held
	watch   func(url string) bool     // what is noted of failed requests also when much has been; nil: nothing

	mu        sync.Mutex
	over      bool                            // events are no longer looked at
	changed   chan struct{}                   // closed and replaced at each change
	loader    string                          // of the document in the main frame; empty before the first
	url       string                          // of that document
	commits   int                             // documents that stood there
	errorPage bool                            // that document is Chromium's own
	docError  string                          // net error of the main document's request
	phases    map[string]map[string]time.Time // lifecycle events by loader, when they came
	requested string                          // last URL asked for as main document
	requestID string                          // of that request
	answer    response                        // to that
	documents map[string]response             // of documents by loader
	redirects []string
	download  bool
	leaving   bool // the main frame asked for another document that has not come yet
	events    int
	asked     int                          // dialogs that were opened
	requests  map[string]request           // under way, by id
	busy      int                          // how many of them end
	quiet     [3]time.Time                 // since when so many of these are under way at most; zero when there are more
	frames    map[proto.PageFrameID]string // what was asked for as document of a frame, by frame
	failed    []job.Resource
	blocked   []job.Resource
	console   []string // errors that scripts of the page left there
}

// A request is one under way.
type request struct {
	url     string
	frame   proto.PageFrameID // that it is made for
	session string            // of that frame, when that has a process of its own
	endless bool              // its end is told to a worker alone, whose script it is
}

// A response is the head of an answer to a main document's request.
type response struct {
	url    string
	status int
	marker string // value of the proxy's marker; empty when it is an origin's
}

type dialog struct {
	leave bool // a beforeunload dialog, which is accepted
	last  bool // the page has had its share
}

func newTracker(frame proto.PageFrameID) *tracker {
	return &tracker{
		frame: frame, changed: make(chan struct{}), dialogs: make(chan dialog, 8), paused: make(chan proto.FetchRequestID, 8),
		phases: map[string]map[string]time.Time{}, documents: map[string]response{}, requests: map[string]request{},
		frames: map[proto.PageFrameID]string{}, quiet: [3]time.Time{time.Now(), time.Now(), time.Now()},
	}
}

// wait returns true when cond holds, and false when ctx, the page or the
// browser ended before.
func (t *tracker) wait(ctx context.Context, tab *browser.Tab, cond func(*tracker) bool) bool {
	for {
		t.mu.Lock()
		ok, changed := cond(t), t.changed
		t.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-tab.Crashed():
			return false
		case <-tab.Gone():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// reached reports whether the document in the main frame has had the
// lifecycle event. Called under mu.
func (t *tracker) reached(phase string) bool { return !t.phases[t.loader][phase].IsZero() }

// handle takes one event of the tab, of the session of one of its frames, or of
// the browser.
func (t *tracker) handle(session, method string, params json.RawMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	switch method {
	case "Page.lifecycleEvent":
		t.lifecycle(params)
	case "Page.frameNavigated":
		t.navigated(params)
	case "Page.navigatedWithinDocument":
		var e struct {
			FrameID proto.PageFrameID `json:"frameId"`
			URL     string            `json:"url"`
		}
		if json.Unmarshal(params, &e) == nil && e.FrameID == t.frame {
			t.url = e.URL
		}
	case "Page.frameRequestedNavigation", "Page.frameStoppedLoading":
		t.leave(method, params)
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		t.complaint(method, params)
	case "Page.javascriptDialogOpening":
		t.dialog(params)
	case "Target.targetCrashed":
		var e struct {
			Target proto.PageFrameID `json:"targetId"` // of a frame in a process of its own that is its id
		}
		if json.Unmarshal(params, &e) == nil && t.frames[e.Target] != "" {
			t.note(&t.failed, t.frames[e.Target], "crashed")
		}
	case "Fetch.requestPaused":
		var e struct {
			RequestID proto.FetchRequestID `json:"requestId"`
		}
		if json.Unmarshal(params, &e) == nil {
			select {
			case t.paused <- e.RequestID:
			default: // one that stays paused goes nowhere either
			}
		}
	case "Browser.downloadWillBegin", "Page.downloadWillBegin":
		var e struct {
			FrameID proto.PageFrameID `json:"frameId"`
		}
		if json.Unmarshal(params, &e) == nil && e.FrameID == t.frame {
			t.download = true
		}
	case "Network.requestWillBeSent", "Network.responseReceived", "Network.loadingFailed", "Network.loadingFinished":
		if t.events++; t.events <= maxEvents || t.isMain(method, params) {
			t.network(session, method, params)
			t.count()
		}
	case "Target.detachedFromTarget":
		var e struct {
			Session string            `json:"sessionId"`
			Target  proto.PageFrameID `json:"targetId"` // of a frame in a process of its own that is its id
		}
		if json.Unmarshal(params, &e) == nil && e.Session != "" { // nobody tells how what it asked for ends
			for id, r := range t.requests {
				if r.session == e.Session || r.frame == e.Target {
					t.finish(id)
				}
			}
			t.count()
		}
	default:
		return
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// end keeps what was seen so far: what the page does after its capture is not
// in the evidence.
func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// endAt ends the looking if no other document has come since there were so many,
// and reports whether it did.
func (t *tracker) endAt(commits int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = t.over || t.commits == commits
	return t.over
}

func (t *tracker) lifecycle(params json.RawMessage) {
	var e struct {
		FrameID  proto.PageFrameID `json:"frameId"`
		LoaderID string            `json:"loaderId"`
		Name     string            `json:"name"`
	}
	if json.Unmarshal(params, &e) != nil || e.FrameID != t.frame {
		return
	}
	if t.phases[e.LoaderID] == nil {
		if len(t.phases) > 100 { // a page that reloads for ever
			t.phases = map[string]map[string]time.Time{t.loader: t.phases[t.loader]}
		}
		t.phases[e.LoaderID] = map[string]time.Time{}
	}
	t.phases[e.LoaderID][e.Name] = time.Now()
}

func (t *tracker) navigated(params json.RawMessage) {
	var e struct {
		Frame struct {
			ID          proto.PageFrameID `json:"id"`
			LoaderID    string            `json:"loaderId"`
			URL         string            `json:"url"`
			Fragment    string            `json:"urlFragment"`
			Unreachable string            `json:"unreachableUrl"`
		} `json:"frame"`
	}
	if json.Unmarshal(params, &e) != nil || e.Frame.ID != t.frame {
		return
	}
	t.commits++
	t.leaving = false
	t.loader, t.url, t.errorPage = e.Frame.LoaderID, e.Frame.URL+e.Frame.Fragment, e.Frame.Unreachable != ""
	if t.phases[t.loader] == nil {
		t.phases[t.loader] = map[string]time.Time{}
	}
}

// leave notes that the main frame wants another document in its own place, and
// that it has stopped to load one.
func (t *tracker) leave(method string, params json.RawMessage) {
	var e struct {
		FrameID     proto.PageFrameID `json:"frameId"`
		Disposition string            `json:"disposition"`
	}
	if json.Unmarshal(params, &e) != nil || e.FrameID != t.frame {
		return
	}
	t.leaving = method == "Page.frameRequestedNavigation" && e.Disposition == "currentTab"
}

func (t *tracker) dialog(params json.RawMessage) {
	var e struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(params, &e) != nil {
		return
	}
	t.asked++
	select {
	case t.dialogs <- dialog{leave: e.Type == "beforeunload", last: t.asked > maxDialogs}:
	default: // a page has one dialog open at a time; this one has found a way around
	}
}

func (t *tracker) hasCommitted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loader != ""
}

// restless reports whether the page goes on replacing its document. Called
// under mu.
func (t *tracker) restless() bool { return t.commits > maxMoves }

func (t *tracker) documentCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.commits
}

// A mark is how far the main frame is: what was asked for in it, and what came.
type mark struct {
	commits int    // documents that stood there
	request string // id of the last request for one
	url     string // that it was answered from
	marker  string // of that answer
}

func (t *tracker) mark() mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return mark{commits: t.commits, request: t.requestID, url: t.answer.url, marker: t.answer.marker}
}

func (t *tracker) isDownload() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.download
}

// document is the answer that the document in the main frame came from; before
// the first document it is the last answer to a request for one.
func (t *tracker) document() response {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loader == "" {
		return t.answer
	}
	return t.documents[t.loader]
}

// requestedURL is the last URL that was asked for as main document, at the
// end of all redirects; first when no request was seen.
func (t *tracker) requestedURL(first string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requested == "" {
		return first
	}
	return t.requested
}

// testify writes what was seen into the evidence. What the proxy refused or
// could not get is told by the proxy, with its reason; a tunnel that failed
// has its full URL here alone.
func (t *tracker) testify(e *job.Evidence, proxy *egress.Proxy) {
	if doc := t.document(); doc.marker == "" {
		e.StatusCode = doc.status
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.FinalURL, e.Redirects, e.ConsoleErrors = t.url, t.redirects, t.console
	stats := proxy.Stats()
	e.BlockedRequests, e.FailedResources = t.blocked, nil
	for _, r := range t.failed {
		why, known := proxy.Failure(r.URL)
		switch {
		case isStatus(r.Reason): // the origin's own answer; over TLS the proxy knows hosts alone
			e.FailedResources = append(e.FailedResources, r)
		case known && why.Blocked():
			e.BlockedRequests = append(e.BlockedRequests, job.Resource{URL: r.URL, Reason: string(why)})
		case known:
			e.FailedResources = append(e.FailedResources, job.Resource{URL: r.URL, Reason: string(why)})
		default:
			e.FailedResources = append(e.FailedResources, r)
		}
	}
	e.BlockedRequests = merge(e.BlockedRequests, stats.Blocked)
	e.FailedResources = merge(e.FailedResources, stats.Failed)
}

// block notes a request that the job itself did not want.
func (t *tracker) block(url, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.note(&t.blocked, url, reason)
	}
}

// isStatus tells the status of an answer from an error of the network.
func isStatus(reason string) bool {
	_, err := strconv.Atoi(reason)
	return err == nil
}

// merge adds what the list does not have yet: neither the URL, nor, for a
// tunnel of pages, which is known by its host alone, any URL of that host.
// Tunnels of WebSockets are told by the proxy alone.
func merge(list, more []job.Resource) []job.Resource {
next:
	for _, m := range more {
		tunnel := strings.HasPrefix(m.URL, "https://") && strings.Count(m.URL, "/") == 3 && strings.HasSuffix(m.URL, "/")
		for _, have := range list {
			if have.URL == m.URL || tunnel && hostOf(have.URL) == hostOf(m.URL) {
				continue next
			}
		}
		list = append(list, m)
	}
	return list
}
