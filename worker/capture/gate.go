package capture

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

// A gate answers for the requests that the browser holds back: it lets them
// go, with the job's own headers where they are meant for, or refuses them.
// The browser holds only those that the gate must see, and none for a job that
// asks for nothing of it. What the browser cannot hold, WebSockets, the egress
// proxy judges by the same rules.
type gate struct {
	tab   *browser.Tab
	proxy *egress.Proxy
	track *tracker

	origins []string // that the headers are for, as scheme://host[:port]
	headers []*proto.FetchHeaderEntry
	urls    []pattern
	kinds   []string // of block_resources
	listed  bool     // the lists are asked for
	page    string   // host of the page; owned by serve
	queue   chan json.RawMessage
	waiting atomic.Int64 // bytes in queue
	over    atomic.Bool  // what still waits is not answered
}

// What waits for the gate is bounded in requests and in bytes, since a page can
// ask for URLs of megabytes. What comes beyond that is never let go.
const (
	maxHeld      = 4096
	maxHeldBytes = 32 << 20
)

// guard sets up the gate, and the proxy's part of it.
func (a *attempt) guard(ctx context.Context) *job.Failure {
	s := a.spec
	g := &gate{
		tab: a.tab, proxy: a.proxy, track: a.track, urls: parsePatterns(s.BlockURLs), kinds: s.BlockResources,
		listed: s.BlockAds || s.BlockTrackers, queue: make(chan json.RawMessage, maxHeld),
	}
	if g.headers = ownHeaders(&s.Secrets); len(g.headers) > 0 {
		g.origins = ownOrigins(s.URL)
	}
	block := egress.Block{Ads: s.BlockAds, Trackers: s.BlockTrackers}
	if len(g.urls) > 0 || slices.Contains(g.kinds, "websocket") {
		block.Socket = g.judgeSocket
	}
	if g.listed || block.Socket != nil {
		a.proxy.Block(block)
	}
	patterns := g.patterns()
	if len(patterns) == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() { defer close(done); g.serve() }()
	a.closers = append(a.closers, func() {
		a.tab.Unpause()
		g.over.Store(true) // or a browser that reads no more would be waited for once for each
		close(g.queue)
		<-done
	})
	return a.before(ctx, func(proto.Client) error { return a.tab.Pause(ctx, patterns, g.hold) })
}

// patterns are what the browser must hold back for the gate.
func (g *gate) patterns() (list []*proto.FetchRequestPattern) {
	if len(g.urls) > 0 || g.listed && g.proxy.HasURLRules() {
		return []*proto.FetchRequestPattern{{URLPattern: "*"}}
	}
	for _, o := range g.origins {
		list = append(list, &proto.FetchRequestPattern{URLPattern: o + "/*"})
	}
	var types []proto.NetworkResourceType
	for _, kind := range g.kinds {
		types = append(types, typesOf[kind]...)
	}
	if g.listed { // the page's own hosts are spared, wherever it leads
		types = append(types, proto.NetworkResourceTypeDocument)
	}
	slices.Sort(types)
	for _, t := range slices.Compact(types) {
		list = append(list, &proto.FetchRequestPattern{URLPattern: "*", ResourceType: t})
	}
	return list
}

// typesOf are Chromium's types for each word of block_resources. In the
// browser's process fetch and XMLHttpRequest are one, a text track is media
// and an event source is a request whose Accept header says so.
var typesOf = map[string][]proto.NetworkResourceType{
	"stylesheet":  {proto.NetworkResourceTypeStylesheet},
	"image":       {proto.NetworkResourceTypeImage},
	"media":       {proto.NetworkResourceTypeMedia},
	"texttrack":   {proto.NetworkResourceTypeMedia},
	"font":        {proto.NetworkResourceTypeFont},
	"script":      {proto.NetworkResourceTypeScript},
	"xhr":         {proto.NetworkResourceTypeXHR, proto.NetworkResourceTypeFetch},
	"fetch":       {proto.NetworkResourceTypeXHR, proto.NetworkResourceTypeFetch},
	"eventsource": {proto.NetworkResourceTypeXHR, proto.NetworkResourceTypeEventSource},
	"manifest":    {}, // headless browsers ask for none
	"ping":        {proto.NetworkResourceTypePing, proto.NetworkResourceTypeCSPViolationReport},
	"frame":       {proto.NetworkResourceTypeDocument}, // the page itself is spared by judge
	"other":       {proto.NetworkResourceTypeOther},
}

// A held request is one that the browser waits with.
type held struct {
	RequestID proto.FetchRequestID      `json:"requestId"`
	FrameID   proto.PageFrameID         `json:"frameId"`
	Type      proto.NetworkResourceType `json:"resourceType"`
	Request   struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
	} `json:"request"`
}

func (h *held) header(name string) string {
	for k, v := range h.Request.Headers {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// kind is the word of block_resources that the request goes by.
func (h *held) kind() string {
	switch h.Type {
	case proto.NetworkResourceTypeMedia:
		if h.header("Range") == "" { // players ask for a range, always
			return "texttrack"
		}
		return "media"
	case proto.NetworkResourceTypeXHR, proto.NetworkResourceTypeFetch:
		if strings.HasPrefix(h.header("Accept"), "text/event-stream") {
			return "eventsource"
		}
		return "xhr"
	}
	for kind, types := range typesOf {
		if slices.Contains(types, h.Type) {
			return kind
		}
	}
	return ""
}

// hold takes a request from the browser's reader, which must not wait.
func (g *gate) hold(params json.RawMessage) {
	size := int64(len(params))
	if g.waiting.Add(size) <= maxHeldBytes {
		select {
		case g.queue <- params:
			return
		default:
		}
	}
	g.waiting.Add(-size)
}

// serve answers until the queue is closed.
func (g *gate) serve() {
	for params := range g.queue {
		g.waiting.Add(-int64(len(params)))
		var h held
		if g.over.Load() || json.Unmarshal(params, &h) != nil {
			continue
		}
		if why := g.judge(&h); why != "" {
			g.track.block(h.Request.URL, string(why))
			g.tab.PostRoot(proto.FetchFailRequest{RequestID: h.RequestID, ErrorReason: proto.NetworkErrorReasonBlockedByClient})
			continue
		}
		g.tab.PostRoot(proto.FetchContinueRequest{RequestID: h.RequestID, Headers: g.with(&h)})
	}
}

// judge says why a request is not let go; empty when it is. The page itself
// always is: what blocks it is not what the job is for.
func (g *gate) judge(h *held) egress.Reason {
	host := ""
	if u, err := url.Parse(h.Request.URL); err == nil {
		host = u.Hostname()
	}
	if h.Type == proto.NetworkResourceTypeDocument && h.FrameID == g.tab.Frame() {
		g.page = host
		if g.listed {
			g.proxy.Spare(host)
		}
		return ""
	}
	switch kind := h.kind(); {
	case anyMatches(g.urls, h.Request.URL):
		return egress.BlockedURL
	case slices.Contains(g.kinds, kind), kind == "xhr" && slices.Contains(g.kinds, "fetch"):
		return egress.BlockedType
	case g.listed:
		return g.proxy.Listed(egress.ListedRequest{URL: h.Request.URL, Host: host, Page: g.page, Type: listType(h.Type, kind)})
	}
	return ""
}

// listType is the name that lists have for a type.
func listType(t proto.NetworkResourceType, kind string) string {
	switch kind {
	case "xhr", "eventsource":
		return "xmlhttprequest"
	case "stylesheet", "image", "media", "font", "script", "ping":
		return kind
	}
	if t == proto.NetworkResourceTypeDocument {
		return "subdocument"
	}
	return "other"
}

// judgeSocket is the proxy's judge of WebSockets.
func (g *gate) judgeSocket(url string) egress.Reason {
	switch {
	case slices.Contains(g.kinds, "websocket"):
		return egress.BlockedType
	case anyMatches(g.urls, url):
		return egress.BlockedURL
	}
	return ""
}

// with gives all headers of a request that the job's own go with; nil leaves
// the request as it is. Another site's script that asks our origin gets them
// not: it could read the answer if the origin allows that to everyone.
func (g *gate) with(h *held) []*proto.FetchHeaderEntry {
	if len(g.headers) == 0 || !slices.Contains(g.origins, originOf(h.Request.URL)) {
		return nil
	}
	if from := h.header("Origin"); from != "" && !slices.Contains(g.origins, strings.ToLower(from)) {
		return nil
	}
	list := slices.Clone(g.headers)
	for name, value := range h.Request.Headers {
		if !slices.ContainsFunc(g.headers, func(e *proto.FetchHeaderEntry) bool { return strings.EqualFold(e.Name, name) }) {
			list = append(list, &proto.FetchHeaderEntry{Name: name, Value: value})
		}
	}
	return list
}

// ownHeaders are the headers that the job gives.
func ownHeaders(s *job.Secrets) (list []*proto.FetchHeaderEntry) {
	for name, value := range s.Headers {
		list = append(list, &proto.FetchHeaderEntry{Name: name, Value: value})
	}
	switch {
	case s.Authorization != "":
		list = append(list, &proto.FetchHeaderEntry{Name: "Authorization", Value: s.Authorization})
	case s.BasicAuth != "":
		list = append(list, &proto.FetchHeaderEntry{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(s.BasicAuth))})
	}
	return list
}

// ownOrigins is the origin of the page that is asked for, and the same host
// over TLS where the page is asked for without it: most such servers do no more
// than to send there.
func ownOrigins(page string) []string {
	origin := originOf(page)
	if origin == "" {
		return nil
	}
	origins := []string{origin}
	if host, plain := strings.CutPrefix(origin, "http://"); plain && (strings.HasSuffix(host, "]") || !strings.Contains(host, ":")) {
		origins = append(origins, "https://"+host)
	}
	return origins
}

// originOf is scheme://host[:port] of a URL as Chromium spells them.
func originOf(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return ""
	}
	end := strings.IndexAny(rest, "/?#\\")
	if end < 0 {
		end = len(rest)
	}
	if strings.Contains(rest[:end], "@") {
		rest, end = rest[strings.LastIndexByte(rest[:end], '@')+1:], end-strings.LastIndexByte(rest[:end], '@')-1
	}
	return strings.ToLower(scheme + "://" + rest[:end])
}
