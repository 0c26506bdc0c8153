// Package job is the noun of the farm: one request, from submission to
// notification, with its options, its states and its result.
//
// It promises that a Spec that passed Normalize can be rendered as written,
// that the states and failure codes listed here are the only ones, and that an
// ID sorts by the millisecond of its making. It knows no transport and no
// storage: wire formats live in pkg/wire, rows in pkg/store.
package job

import "time"

// A Job is everything a client may know of one job.
type Job struct {
	ID         ID
	Account    string
	State      State
	WaitingFor WaitingFor // while Queued
	Position   int        // while Queued: 1 is next, see api/openapi.yaml; 0 when unknown
	StartsAt   time.Time  // while Queued: an estimate; zero when unknown
	Tier       int
	CreatedAt  time.Time // acceptance
	StartedAt  time.Time // start of the last attempt; zero before the first
	FinishedAt time.Time // zero before the end
	ExpiresAt  time.Time // end of retention; zero before the end
	Attempts   int       // attempts that were started and counted
	Cached     bool
	Billable   *bool // nil before the end
	CustomID   string
	Metadata   map[string]string
	Batch      string   // whose line it is; empty: of none
	Line       int      // of the batch's input; 1 is the first
	Pass       int      // which time the line is tried; 1 is the first
	Webhook    *Webhook // nil: nobody but the account's endpoints is told
	Options    []byte   // JSON of the normalised Spec
	Result     *Result  // when Succeeded
	Failure    *Failure // when Failed
	Timings    *Timings // of the attempt that ended the job
	Evidence   *Evidence
}

// A Webhook is whom the end of one job is told to.
type Webhook struct {
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"` // webhook.Type each; none: every end
}

// A Result is the stored artifact.
type Result struct {
	Object      string // key in the bucket
	ContentType string
	Width       int // device px; 0 for documents
	Height      int
	Pages       int // of a PDF; 0 for pictures
	SizeBytes   int64
	SHA256      string // lower-case hex
	Gone        bool   // deleted by its account; what the other fields say is history
}

// Timings are the stages of one attempt, in whole milliseconds.
type Timings struct {
	QueueMS    int64 `json:"queue_ms"`
	NavigateMS int64 `json:"navigate_ms"`
	WaitMS     int64 `json:"wait_ms"`
	CaptureMS  int64 `json:"capture_ms"`
	UploadMS   int64 `json:"upload_ms"`
	TotalMS    int64 `json:"total_ms"`
}

// Milestones are when the page's last document got how far, in milliseconds
// from the start of the attempt; 0 is never.
type Milestones struct {
	CommittedMS int64 `json:"committed_ms,omitempty"` // the first document's answer came
	ParsedMS    int64 `json:"parsed_ms,omitempty"`    // DOMContentLoaded
	PaintedMS   int64 `json:"painted_ms,omitempty"`
	LoadedMS    int64 `json:"loaded_ms,omitempty"`
	ReadyMS     int64 `json:"ready_ms,omitempty"` // every wait was over
	CapturedMS  int64 `json:"captured_ms,omitempty"`
}

// Evidence is what an attempt saw of the page. All of its text comes from
// strangers: Clean bounds it before it travels.
type Evidence struct {
	FinalURL        string      `json:"final_url,omitempty"`
	StatusCode      int         `json:"status_code,omitempty"`
	Title           string      `json:"title,omitempty"`
	Redirects       []string    `json:"redirects,omitempty"`
	FailedResources []Resource  `json:"failed_resources,omitempty"`
	BlockedRequests []Resource  `json:"blocked_requests,omitempty"`
	ConsoleErrors   []string    `json:"console_errors,omitempty"`
	UnloadedImages  int         `json:"unloaded_images,omitempty"`
	MissingGlyphs   int         `json:"missing_glyphs,omitempty"` // characters of the text that no font has
	TimedOut        []string    `json:"timed_out,omitempty"`      // waits that ended by their deadline, see api/openapi.yaml
	Timings         *Milestones `json:"timings,omitempty"`        // nil where no document came
	Page            *Page       `json:"page,omitempty"`           // only with save_metadata
}

// A Page is what a page says of itself, for machines.
type Page struct {
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Author      string            `json:"author"`
	Language    string            `json:"language"`
	Canonical   string            `json:"canonical"` // URL
	Icon        string            `json:"icon"`      // URL
	OpenGraph   map[string]string `json:"og"`        // by name without "og:"
	Twitter     map[string]string `json:"twitter"`   // by name without "twitter:"
}

// A Resource is one request of a page that did not get its answer.
type Resource struct {
	URL    string `json:"url"`
	Reason string `json:"reason"` // a Code, an HTTP status, or Chromium's net error
}
