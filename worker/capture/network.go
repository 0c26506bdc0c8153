package capture

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
)

// network follows the requests: the main document's closely, the others only
// as far as they fail.
func (t *tracker) network(session, method string, params json.RawMessage) {
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
	if t.events > maxEvents && !main && e.RequestID != t.requestID {
		return
	}
	switch method {
	case "Network.requestWillBeSent":
		t.finish(e.RequestID) // a redirect is the same one again
		t.begin(e.RequestID, request{url: cut(e.Request.URL), frame: e.FrameID, session: session, endless: e.LoaderID == ""})
		if e.Type == "Document" && !main && (len(t.frames) < maxTracked || t.frames[e.FrameID] != "") {
			t.frames[e.FrameID] = t.requests[e.RequestID].url
		}
		if main {
			if e.Redirect != nil && len(t.redirects) < maxNoted {
				t.redirects = append(t.redirects, cut(e.Redirect.URL))
			}
			t.requested, t.requestID, t.answer, t.docError = e.Request.URL, e.RequestID, response{}, ""
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
		url := t.requests[e.RequestID].url
		t.finish(e.RequestID)
		if e.RequestID == t.requestID {
			t.docError = e.ErrorText
		}
		t.lost(url, e.ErrorText, e.Blocked, e.Canceled)
	case "Network.loadingFinished":
		t.finish(e.RequestID)
	}
}

// isMain reports whether an event may be of the main document's request, without
// reading it: of so many others none is looked at any more.
func (t *tracker) isMain(method string, params json.RawMessage) bool {
	if method == "Network.loadingFailed" || method == "Network.loadingFinished" {
		return bytes.Contains(params, []byte(strconv.Quote(t.requestID)))
	}
	return bytes.Contains(params, []byte(`"type":"Document"`)) && bytes.Contains(params, []byte(strconv.Quote(string(t.frame))))
}

// lost files a request that failed. What its page gave up itself is no fault.
func (t *tracker) lost(url, text, blocked string, canceled bool) {
	switch {
	case url == "" || canceled || text == "net::ERR_ABORTED":
	case blocked == "inspector": // that is us: the gate has noted it
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
	if len(*list) < maxNoted || len(*list) < 2*maxNoted && t.watch != nil && t.watch(url) {
		*list = append(*list, job.Resource{URL: cut(url), Reason: reason})
	}
}

// cut bounds a URL, and lets go of what is cut off.
func cut(url string) string {
	if len(url) <= maxURL {
		return url
	}
	return strings.Clone(url[:maxURL])
}

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
