package job

import "fmt"

// A Code says why a job ended without an artifact. The list is closed and
// documented, with what each means, in docs/states.md.
type Code string

const (
	NameNotResolved   Code = "name_not_resolved"
	AddressRefused    Code = "address_refused"
	ConnectionRefused Code = "connection_refused"
	ConnectionReset   Code = "connection_reset"
	TLSError          Code = "tls_error"
	RedirectLoop      Code = "redirect_loop"
	EmptyResponse     Code = "empty_response"
	Download          Code = "download"
	NavigationTimeout Code = "navigation_timeout"
	LoadTimeout       Code = "load_timeout"
	WaitTimeout       Code = "wait_timeout"
	CaptureTimeout    Code = "capture_timeout"
	WallTimeout       Code = "wall_timeout"
	PageCrashed       Code = "page_crashed"
	BrowserCrashed    Code = "browser_crashed"
	OutOfMemory       Code = "out_of_memory"
	PageTooLarge      Code = "page_too_large"
	SelectorNotFound  Code = "selector_not_found"
	FailOn            Code = "fail_on"
	StorageFailed     Code = "storage_failed"
	WorkerLost        Code = "worker_lost"
	AttemptsExhausted Code = "attempts_exhausted"
	AccountGone       Code = "account_gone"
	Internal          Code = "internal"
)

// Codes maps every code to whether trying the same job again can help.
// A retryable failure is retried by the farm itself only where the fault is
// the farm's (see FarmFault); retrying a page is the client's decision.
var Codes = map[Code]bool{
	NameNotResolved: true, AddressRefused: false, ConnectionRefused: true, ConnectionReset: true,
	TLSError: false, RedirectLoop: false, EmptyResponse: true, Download: false,
	NavigationTimeout: true, LoadTimeout: true, WaitTimeout: true, CaptureTimeout: true, WallTimeout: true,
	PageCrashed: true, BrowserCrashed: true, OutOfMemory: false, PageTooLarge: false,
	SelectorNotFound: false, FailOn: false, StorageFailed: true, WorkerLost: true,
	AttemptsExhausted: true, AccountGone: false, Internal: true,
}

// FarmFault reports whether a failure says something about the farm rather
// than about the page, so that another attempt on another seat is worth its
// price.
func (c Code) FarmFault() bool {
	switch c {
	case BrowserCrashed, StorageFailed, WorkerLost, Internal:
		return true
	}
	return false
}

// Timeout reports whether the code is one of the deadlines; a call that waits
// answers those with 504.
func (c Code) Timeout() bool {
	switch c {
	case NavigationTimeout, LoadTimeout, WaitTimeout, CaptureTimeout, WallTimeout:
		return true
	}
	return false
}

// A Stage is the part of an attempt in which it ended.
type Stage string

const (
	StageQueue    Stage = "queue"
	StageNavigate Stage = "navigate"
	StageWait     Stage = "wait"
	StageCapture  Stage = "capture"
	StageUpload   Stage = "upload"
)

// Stages lists every stage, in the order of an attempt.
var Stages = []Stage{StageQueue, StageNavigate, StageWait, StageCapture, StageUpload}

// A Failure is a result, not a fault of the service: it is stored with the
// job and shown to the client. Detail names what happened and the way out; it
// never holds an address that a name resolved to, nor text of the page.
type Failure struct {
	Code      Code   `json:"code"`
	Detail    string `json:"detail"`
	Stage     Stage  `json:"stage"`
	Retryable bool   `json:"retryable"`
}

// Fail makes a Failure; Retryable is looked up in Codes.
func Fail(code Code, stage Stage, format string, args ...any) *Failure {
	return &Failure{Code: code, Stage: stage, Detail: fmt.Sprintf(format, args...), Retryable: Codes[code]}
}

// Error lets a Failure travel as an error inside one process.
func (f *Failure) Error() string { return string(f.Code) + " in " + string(f.Stage) + ": " + f.Detail }
