package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// A Format is the kind of artifact a job asks for.
type Format string

const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
	PDF  Format = "pdf"
)

// Formats lists every format, the default first.
var Formats = []Format{PNG, JPEG, PDF}

// FormatNames are the formats as text.
func FormatNames() []string {
	names := make([]string, len(Formats))
	for i, f := range Formats {
		names[i] = string(f)
	}
	return names
}

// Ext is the file extension, with its dot, of the artifact.
func (f Format) Ext() string {
	if f == JPEG {
		return ".jpg"
	}
	return "." + string(f)
}

// ContentType is the media type of the artifact.
func (f Format) ContentType() string {
	switch f {
	case JPEG:
		return "image/jpeg"
	case PDF:
		return "application/pdf"
	}
	return "image/png"
}

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

// A Spec is what to render: the normalised options of a job. Exactly one of
// URL and HTML is set. Its JSON is what travels through the farm and what
// `options` of a job shows.
type Spec struct {
	URL               string    `json:"url,omitempty"`  // http or https, serialised as the WHATWG URL standard says
	HTML              string    `json:"html,omitempty"` // served to the page from a host of its own
	Format            Format    `json:"format"`
	Quality           int       `json:"quality"` // 1..100; jpeg alone
	Width             int       `json:"width"`   // CSS px, 1..10,000
	Height            int       `json:"height"`  // CSS px, 1..10,000
	DeviceScaleFactor float64   `json:"device_scale_factor"`
	FullPage          bool      `json:"full_page"`
	WaitUntil         WaitUntil `json:"wait_until"`
	DelayMS           int       `json:"delay_ms"`   // after the page is ready, 0..30,000
	TimeoutMS         int       `json:"timeout_ms"` // from lease to the end of capture, 1,000..the plan's wall budget
	FailOnTimeout     bool      `json:"fail_on_timeout"`
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
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

// Normalize checks every field, brings the URL into its one serialised form
// and returns all that is wrong, in the order of the fields. wallMS is the
// plan's wall budget, the upper bound of TimeoutMS.
func (s *Spec) Normalize(wallMS int) []*FieldError {
	var errs []*FieldError
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	switch {
	case s.URL == "" && s.HTML == "":
		bad("url", "give url or html: one of the two says what to render")
	case s.URL != "" && s.HTML != "":
		bad("html", "give url or html, not both")
	case s.URL != "":
		u, err := CheckURL(s.URL)
		if err != nil {
			errs = append(errs, err)
		}
		s.URL = u
	}
	if s.Format == "jpg" {
		s.Format = JPEG
	}
	if !slices.Contains(Formats, s.Format) {
		bad("format", "must be one of png, jpeg, pdf, not %q", s.Format)
	}
	between := func(field string, v, lo, hi int, unit string) {
		if v < lo || v > hi {
			bad(field, "must be %d to %d%s, not %d", lo, hi, unit, v)
		}
	}
	between("quality", s.Quality, 1, 100, "")
	between("width", s.Width, 1, 10_000, " CSS pixels")
	between("height", s.Height, 1, 10_000, " CSS pixels")
	if !(s.DeviceScaleFactor >= 0.5 && s.DeviceScaleFactor <= 4) { // the negation also catches NaN
		bad("device_scale_factor", "must be 0.5 to 4, not %v", s.DeviceScaleFactor)
	}
	if !slices.Contains(WaitUntils, s.WaitUntil) {
		bad("wait_until", "must be one of domcontentloaded, load, networkidle2, networkidle0, not %q", s.WaitUntil)
	}
	between("delay_ms", s.DelayMS, 0, 30_000, " milliseconds")
	between("timeout_ms", s.TimeoutMS, 1_000, wallMS, " milliseconds (the plan's wall budget)")
	return errs
}

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
		return refuse("is not an absolute URL: give one such as https://example.com/")
	}
	switch u.Scheme() {
	case "http", "https":
	default:
		return refuse("has the scheme %q; only http and https pages are rendered (send your own markup as html)", u.Scheme())
	}
	if u.Hostname() == "" {
		return refuse("has no host")
	}
	if u.Username() != "" || u.Password() != "" {
		return refuse("holds credentials; they would end up in logs and results")
	}
	return u.Href(false), nil
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
