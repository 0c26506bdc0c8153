package capture

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

const (
	maxEvents  = 10_000 // network events of one job that are looked at
	maxDialogs = 100    // dialogs of one job that are dismissed
	maxNoted   = 50     // entries of each list of the evidence
	maxURL     = 2 << 10
)

// A tracker folds the tab's events into what a render must know: which
// document stands in the main frame, how far it is, and what went wrong on
// the way. handle runs on the browser's reader; everything else on the
// attempt's goroutine.
type tracker struct {
	frame   proto.PageFrameID
	changed chan struct{} // holds one token after a change
	dialogs chan dialog
	paused  chan proto.FetchRequestID // main documents asked for while the page is held

	mu        sync.Mutex
	loader    string                     // of the document in the main frame; empty before the first
	url       string                     // of that document
	commits   int                        // documents that stood there
	errorPage bool                       // that document is Chromium's own
	docError  string                     // net error of the main document's request
	phases    map[string]map[string]bool // lifecycle events by loader
	requested string                     // last URL asked for as main document
	answer    response                   // to that
	documents map[string]response        // of documents by loader
	redirects []string
	download  bool
	events    int
	asked     int               // dialogs that were opened
	urls      map[string]string // requests in flight
	failed    []job.Resource
	blocked   []job.Resource
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
		frame: frame, changed: make(chan struct{}, 1), dialogs: make(chan dialog, 8), paused: make(chan proto.FetchRequestID, 8),
		phases: map[string]map[string]bool{}, documents: map[string]response{}, urls: map[string]string{},
	}
}

// wait returns true when cond holds, and false when ctx, the page or the
// browser ended before.
func (t *tracker) wait(ctx context.Context, tab *browser.Tab, cond func(*tracker) bool) bool {
	for {
		t.mu.Lock()
		ok := cond(t)
		t.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-t.changed:
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
func (t *tracker) reached(phase string) bool { return t.phases[t.loader][phase] }

// handle takes one event of the tab or of the browser.
func (t *tracker) handle(method string, params json.RawMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch method {
	case "Page.lifecycleEvent":
		t.lifecycle(params)
	case "Page.frameNavigated":
		t.navigated(params)
	case "Page.javascriptDialogOpening":
		t.dialog(params)
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
		if t.events++; t.events <= maxEvents {
			t.network(method, params)
		}
	default:
		return
	}
	select {
	case t.changed <- struct{}{}:
	default:
	}
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
			t.phases = map[string]map[string]bool{t.loader: t.phases[t.loader]}
		}
		t.phases[e.LoaderID] = map[string]bool{}
	}
	t.phases[e.LoaderID][e.Name] = true
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
	t.loader, t.url, t.errorPage = e.Frame.LoaderID, e.Frame.URL+e.Frame.Fragment, e.Frame.Unreachable != ""
	if t.phases[t.loader] == nil {
		t.phases[t.loader] = map[string]bool{}
	}
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

// network follows the requests: the main document's closely, the others only
// as far as they fail.
func (t *tracker) network(method string, params json.RawMessage) {
	var e struct {
		RequestID string            `json:"requestId"`
		LoaderID  string            `json:"loaderId"`
		FrameID   proto.PageFrameID `json:"frameId"`
		Type      string            `json:"type"`
		ErrorText string            `json:"errorText"`
		Canceled  bool              `json:"canceled"`
		Blocked   string            `json:"blockedReason"`
		Request   struct {
			URL string `json:"url"`
		} `json:"request"`
		Redirect *struct {
			URL string `json:"url"`
		} `json:"redirectResponse"`
		Response struct {
			URL     string          `json:"url"`
			Status  int             `json:"status"`
			Headers json.RawMessage `json:"headers"`
		} `json:"response"`
	}
	if json.Unmarshal(params, &e) != nil {
		return
	}
	main := e.FrameID == t.frame && e.RequestID == e.LoaderID && e.Type == "Document"
	switch method {
	case "Network.requestWillBeSent":
		t.urls[e.RequestID] = e.Request.URL
		if main {
			if e.Redirect != nil && len(t.redirects) < maxNoted {
				t.redirects = append(t.redirects, cut(e.Redirect.URL))
			}
			t.requested, t.answer, t.docError = e.Request.URL, response{}, ""
		}
	case "Network.responseReceived":
		marker := markerIn(e.Response.Headers)
		switch {
		case main:
			t.answer = response{url: e.Response.URL, status: e.Response.Status, marker: marker}
			if len(t.documents) > 100 { // a page that reloads for ever
				clear(t.documents)
			}
			t.documents[e.LoaderID] = t.answer
		case e.Response.Status >= 400 && marker == "":
			t.note(&t.failed, e.Response.URL, strconv.Itoa(e.Response.Status))
		}
	case "Network.loadingFailed":
		url := t.urls[e.RequestID]
		delete(t.urls, e.RequestID)
		if e.Type == "Document" && (url == t.requested || e.RequestID == t.loader) {
			t.docError = e.ErrorText
		}
		t.lost(url, e.ErrorText, e.Blocked, e.Canceled)
	case "Network.loadingFinished":
		delete(t.urls, e.RequestID)
	}
}

// lost files a request that failed. What its page gave up itself is no fault.
func (t *tracker) lost(url, text, blocked string, canceled bool) {
	switch {
	case url == "" || canceled || text == "net::ERR_ABORTED":
	case text == "net::ERR_UNSAFE_PORT":
		// Chromium refuses these before the proxy is asked.
		t.note(&t.blocked, url, string(job.AddressRefused))
	case blocked != "":
		t.note(&t.failed, url, blocked)
	default:
		t.note(&t.failed, url, strings.TrimPrefix(text, "net::"))
	}
}

func (t *tracker) note(list *[]job.Resource, url, reason string) {
	if len(*list) < maxNoted {
		*list = append(*list, job.Resource{URL: cut(url), Reason: reason})
	}
}

func cut(url string) string { return url[:min(len(url), maxURL)] }

// markerIn finds the proxy's marker among the headers of a response.
func markerIn(headers json.RawMessage) string {
	if !strings.Contains(strings.ToLower(string(headers)), strings.ToLower(egress.MarkerHeader)) {
		return ""
	}
	var m map[string]string
	if json.Unmarshal(headers, &m) == nil {
		for k, v := range m {
			if strings.EqualFold(k, egress.MarkerHeader) {
				return v
			}
		}
	}
	return ""
}

func (t *tracker) hasCommitted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loader != ""
}

// restless reports whether the page goes on replacing its document.
func (t *tracker) restless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.commits > maxMoves
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
	e.FinalURL, e.Redirects = t.url, t.redirects
	stats := proxy.Stats()
	e.BlockedRequests, e.FailedResources = t.blocked, nil
	for _, r := range t.failed {
		why, known := proxy.Failure(r.URL)
		switch {
		case known && (why == egress.Refused || why == egress.OverLimit):
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

// merge adds what the list does not have yet: neither the URL, nor, for a
// tunnel, which is known by its host alone, any URL of that host.
func merge(list, more []job.Resource) []job.Resource {
next:
	for _, m := range more {
		for _, have := range list {
			if have.URL == m.URL || !strings.HasPrefix(m.URL, "http://") && hostOf(have.URL) == hostOf(m.URL) {
				continue next
			}
		}
		list = append(list, m)
	}
	return list
}
