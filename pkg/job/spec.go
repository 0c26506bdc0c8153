package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	whatwgerr "github.com/nlnwa/whatwg-url/errors"
	whatwg "github.com/nlnwa/whatwg-url/url"

	"github.com/tintype/tintype/pkg/option"
)

// A Format is the kind of artifact a job asks for.
type Format string

const (
	PNG       Format = "png"
	JPEG      Format = "jpeg"
	WebP      Format = "webp"
	PDF       Format = "pdf"
	HTML      Format = "html"
	MHTML     Format = "mhtml"
	Markdown  Format = "markdown"
	PlainText Format = "text"
)

// Formats lists every format that is offered, the default first.
var Formats = func() (list []Format) {
	for _, name := range option.Formats {
		list = append(list, Format(name))
	}
	return list
}()

// FormatNames are the formats as text.
func FormatNames() []string { return slices.Clone(option.Formats) }

// Ext is the file extension, with its dot, of the artifact.
func (f Format) Ext() string {
	switch f {
	case JPEG:
		return ".jpg"
	case Markdown:
		return ".md"
	case PlainText:
		return ".txt"
	}
	return "." + string(f)
}

// ContentType is the media type of the artifact.
func (f Format) ContentType() string {
	switch f {
	case JPEG:
		return "image/jpeg"
	case WebP:
		return "image/webp"
	case PDF:
		return "application/pdf"
	case HTML:
		return "text/html; charset=utf-8"
	case MHTML:
		// A whole message (RFC 2557, RFC 2046 section 5.2.1): its own header says
		// multipart/related, and by what boundary.
		return "message/rfc822"
	case Markdown:
		return "text/markdown; charset=utf-8"
	case PlainText:
		return "text/plain; charset=utf-8"
	}
	return "image/png"
}

// formerMHTML is the content type that MHTML had once, and that some kept results
// still have; it lacks the boundary that such a type must have.
const formerMHTML = "multipart/related"

// FormatOf is the format of a content type; empty if it is none's.
func FormatOf(contentType string) Format {
	if contentType == formerMHTML {
		return MHTML
	}
	for _, f := range Formats {
		if f.ContentType() == contentType {
			return f
		}
	}
	return ""
}

// Picture reports a format that is made of pixels.
func (f Format) Picture() bool { return f == PNG || f == JPEG || f == WebP }

// WaitUntil names the moment after which a page counts as loaded.
type WaitUntil string

const (
	DOMContentLoaded WaitUntil = "domcontentloaded"
	Load             WaitUntil = "load"
	NetworkIdle2     WaitUntil = "networkidle2" // at most 2 requests in flight for 500 ms
	NetworkIdle0     WaitUntil = "networkidle0" // none for 500 ms
)

// WaitUntils lists every value of WaitUntil.
var WaitUntils = []WaitUntil{DOMContentLoaded, Load, NetworkIdle2, NetworkIdle0}

// A Spec is what to render: the normalised options of a job, as the table of
// package option describes them. Exactly one of URL, HTML and Markdown is set. Its
// JSON is what travels through the farm and what `options` of a job shows.
//
// A field with omitempty has its default at its zero value: Normalize brings a
// default that was spelled out there, so that equal requests are equal specs.
type Spec struct {
	URL               string    `json:"url,omitempty"`  // http or https, serialised as the WHATWG URL standard says
	HTML              string    `json:"html,omitempty"` // served to the page from a host of its own
	Markdown          string    `json:"markdown,omitempty"`
	Format            Format    `json:"format"`
	Quality           int       `json:"quality"` // 1..100; jpeg and webp alone
	Width             int       `json:"width"`   // CSS px, 1..10,000
	Height            int       `json:"height"`  // CSS px, 1..10,000
	DeviceScaleFactor float64   `json:"device_scale_factor"`
	FullPage          bool      `json:"full_page"`
	WaitUntil         WaitUntil `json:"wait_until"`
	DelayMS           int       `json:"delay_ms"`   // after the page is ready, 0..30,000
	TimeoutMS         int       `json:"timeout_ms"` // from lease to the end of capture, 1,000..the plan's wall budget
	FailOnTimeout     bool      `json:"fail_on_timeout"`

	SpecOutput
	SpecSize
	SpecState
	SpecFailing
	SpecNetwork
	SpecPaper

	// Secret says which of Secrets were given, by the options' names, sorted.
	Secret []string `json:"secrets,omitempty"`
	// Secrets are never part of the spec's JSON: they travel sealed beside it.
	Secrets Secrets `json:"-"`
}

// SpecOutput is what comes out, beyond its format.
type SpecOutput struct {
	OptimizeForSpeed *bool `json:"optimize_for_speed,omitempty"`
	Transparent      bool  `json:"transparent,omitempty"`
	Deterministic    bool  `json:"deterministic,omitempty"`
	SaveMetadata     bool  `json:"save_metadata,omitempty"`
}

// SpecSize is how large, and which part.
type SpecSize struct {
	Device    string `json:"device,omitempty"`
	Mobile    *bool  `json:"mobile,omitempty"` // nil: as the device says
	Touch     *bool  `json:"touch,omitempty"`  // nil: as the device says
	Landscape bool   `json:"landscape,omitempty"`

	FullPageMode      string `json:"full_page_mode,omitempty"`
	SkipScroll        bool   `json:"skip_scroll,omitempty"`
	ScrollIncrementPX int    `json:"scroll_increment_px,omitempty"`
	ScrollDelayMS     int    `json:"scroll_delay_ms,omitempty"`
	MaxHeight         int    `json:"max_height,omitempty"` // CSS px
	FullWidth         bool   `json:"full_width,omitempty"`

	Selector    string `json:"selector,omitempty"`
	Clip        string `json:"clip,omitempty"` // x,y,width,height in CSS px
	ThumbWidth  int    `json:"thumb_width,omitempty"`
	ThumbHeight int    `json:"thumb_height,omitempty"`
	ImgFit      string `json:"img_fit,omitempty"`
	ImgPosition string `json:"img_position,omitempty"`
	ImgBG       string `json:"img_bg,omitempty"`
}

// SpecState is what is done to the page, and what is waited for.
type SpecState struct {
	JS            string   `json:"js,omitempty"`
	CSS           string   `json:"css,omitempty"`
	HideSelector  string   `json:"hide_selector,omitempty"`
	Click         []string `json:"click,omitempty"`
	Hover         string   `json:"hover,omitempty"`
	ScrollTo      string   `json:"scroll_to,omitempty"`
	DarkMode      bool     `json:"dark_mode,omitempty"`
	ReducedMotion bool     `json:"reduced_motion,omitempty"`
	Media         string   `json:"media,omitempty"`

	WaitFor             string `json:"wait_for,omitempty"`
	WaitToLeave         string `json:"wait_to_leave,omitempty"`
	WaitTimeoutMS       int    `json:"wait_timeout_ms,omitempty"`
	NavigationTimeoutMS int    `json:"navigation_timeout_ms,omitempty"`
}

// SpecFailing is when a page is a failure.
type SpecFailing struct {
	FailOn4xx             bool     `json:"fail_on_4xx,omitempty"`
	FailOn5xx             bool     `json:"fail_on_5xx,omitempty"`
	FailOnConsoleError    bool     `json:"fail_on_console_error,omitempty"`
	FailOnResourceError   bool     `json:"fail_on_resource_error,omitempty"`
	FailIfRequestFailed   []string `json:"fail_if_request_failed,omitempty"`
	FailIfSelectorMissing bool     `json:"fail_if_selector_missing,omitempty"`
	FailIfSelectorPresent string   `json:"fail_if_selector_present,omitempty"`
	FailIfContentContains []string `json:"fail_if_content_contains,omitempty"`
	FailIfContentMissing  []string `json:"fail_if_content_missing,omitempty"`
}

// SpecNetwork is what is loaded, and as whom.
type SpecNetwork struct {
	BlockAds          bool     `json:"block_ads,omitempty"`
	BlockTrackers     bool     `json:"block_trackers,omitempty"`
	HideCookieBanners bool     `json:"hide_cookie_banners,omitempty"`
	BlockURLs         []string `json:"block_urls,omitempty"`
	BlockResources    []string `json:"block_resources,omitempty"`

	UserAgent  string   `json:"user_agent,omitempty"`
	Latitude   *float64 `json:"latitude,omitempty"`
	Longitude  *float64 `json:"longitude,omitempty"`
	Accuracy   *float64 `json:"accuracy,omitempty"` // metres; nil: 10
	TZ         string   `json:"tz,omitempty"`
	AcceptLang string   `json:"accept_lang,omitempty"`
}

// SpecPaper is how a PDF is laid out.
type SpecPaper struct {
	PDFPageSize     string  `json:"pdf_page_size,omitempty"` // as in the table; empty: A4
	PDFPageWidth    string  `json:"pdf_page_width,omitempty"`
	PDFPageHeight   string  `json:"pdf_page_height,omitempty"`
	PDFOrientation  string  `json:"pdf_orientation,omitempty"`
	PDFMargin       string  `json:"pdf_margin,omitempty"`
	PDFMarginTop    string  `json:"pdf_margin_top,omitempty"`
	PDFMarginRight  string  `json:"pdf_margin_right,omitempty"`
	PDFMarginBottom string  `json:"pdf_margin_bottom,omitempty"`
	PDFMarginLeft   string  `json:"pdf_margin_left,omitempty"`
	PDFPreferCSS    *bool   `json:"pdf_prefer_css_page_size,omitempty"` // nil: true
	PDFBackground   *bool   `json:"pdf_background,omitempty"`           // nil: true
	PDFScale        float64 `json:"pdf_scale,omitempty"`                // 0: 1
	PDFPageRange    string  `json:"pdf_page_range,omitempty"`
	PDFHeader       string  `json:"pdf_header,omitempty"`
	PDFFooter       string  `json:"pdf_footer,omitempty"`
	PDFOutline      bool    `json:"pdf_outline,omitempty"`
	PDFTagged       *bool   `json:"pdf_tagged,omitempty"` // nil: true
}

// Secrets are the options that say who the client is to the page's server.
// They are sealed wherever they are kept, and only a worker opens them.
type Secrets struct {
	Headers       map[string]string `json:"headers,omitempty"`
	Cookies       []string          `json:"cookies,omitempty"` // as Set-Cookie writes them
	Authorization string            `json:"authorization,omitempty"`
	BasicAuth     string            `json:"basic_auth,omitempty"` // user:password
	Proxy         string            `json:"proxy,omitempty"`      // [user:password@]host:port
}

// Defaults is the spec of a request that names nothing but its source.
func Defaults() Spec {
	return Spec{
		Format: PNG, Quality: 80, Width: 1280, Height: 1024, DeviceScaleFactor: 1,
		WaitUntil: Load, TimeoutMS: 30_000,
	}
}

// A FieldError names one field of a spec, the rule it breaks and the way out.
type FieldError struct {
	Field  string // JSON name
	Detail string
	URL    bool // the rule is about what a URL may be
	Others bool // the rule is about what other fields say
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

// urls parses as browsers do, so that the string we check, store and sign is
// the string Chromium navigates to (WHATWG URL Standard).
var urls = whatwg.NewParser()

// CheckURL parses a URL as the WHATWG URL standard says and returns it
// serialised. Only http and https pass; addresses are not judged here but
// where they are dialled.
func CheckURL(raw string) (string, *FieldError) {
	refuse := func(format string, args ...any) (string, *FieldError) {
		return "", &FieldError{Field: "url", URL: true, Detail: fmt.Sprintf(format, args...)}
	}
	if len(raw) > 16<<10 {
		return refuse("is %d bytes long; at most 16384 are accepted", len(raw))
	}
	u, err := urls.Parse(raw)
	if err != nil {
		return refuse("%s", whyNoURL(err))
	}
	switch u.Scheme() {
	case "http", "https":
	default:
		return refuse("has the scheme %q; only http and https pages are rendered (send your own markup as html)", u.Scheme())
	}
	if u.Hostname() == "" {
		return refuse("has no host")
	}
	if strings.Contains(u.Hostname(), "*") {
		return refuse("has a host with a *, which Chromium spells in another way than the standard") // it escapes it
	}
	if u.Username() != "" || u.Password() != "" {
		return refuse("holds credentials, which would end up in logs and results; leave them out of it and give basic_auth")
	}
	return u.Href(false), nil
}

// whyNoURL says what keeps a text from being a URL. The parser's own words are
// about code points, and repeat the text, which may hold a password.
func whyNoURL(err error) string {
	const own = "is not a URL: "
	switch fault := whatwgerr.Type(err); fault {
	case whatwgerr.PortOutOfRange:
		return own + "its port is not one of 1 to 65535"
	case whatwgerr.PortInvalid:
		return own + "what stands behind the colon of its host is no port, a number from 1 to 65535 (an IPv6 address stands in brackets)"
	case whatwgerr.HostMissing:
		return own + "it has no host (an IPv6 address stands in brackets)"
	case whatwgerr.IPv6Unclosed:
		return own + "its host begins with [ and has no ]; an IPv6 address stands in brackets, such as http://[2001:db8::1]/"
	case whatwgerr.DomainInvalidCodePoint:
		return own + "its host has a space or another character that no host has"
	case whatwgerr.DomainToASCII:
		return own + "its host is no name of a host (IDNA)"
	default:
		switch name := string(fault); {
		case strings.Contains(name, "IPv6 address"):
			return own + "the brackets of its host hold no IPv6 address"
		case strings.Contains(name, "IPv4 address"):
			return own + "its host ends in a number as an IPv4 address does, and is none"
		}
	}
	return "is not an absolute URL: give one such as https://example.com/"
}

// Host is the lower-case host of the page, without its port, or "" for html.
// It reads what Normalize wrote, where the host stands between "://" and the
// next "/", without credentials.
func (s *Spec) Host() string {
	_, rest, _ := strings.Cut(s.URL, "://")
	host, _, _ := strings.Cut(rest, "/")
	if port := strings.LastIndexByte(host, ':'); port > strings.LastIndexByte(host, ']') {
		host = host[:port]
	}
	return strings.ToLower(host)
}

// Marshal gives the spec's JSON, the form it travels in.
func (s *Spec) Marshal() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("job: a spec has no field that JSON cannot hold: " + err.Error())
	}
	return b
}

// ParseSpec reads what Marshal wrote. It is for bytes that the farm itself
// stored: it fills no default and checks no rule.
func ParseSpec(b []byte) (*Spec, error) {
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("stored spec: %w", err)
	}
	return &s, nil
}

// Marshal gives the secrets' JSON; nil if there are none.
func (s *Secrets) Marshal() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("job: secrets have no field that JSON cannot hold: " + err.Error())
	}
	if string(b) == "{}" {
		return nil
	}
	return b
}
