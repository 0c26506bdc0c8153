package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
)

// resultStore is what the archive says of the lines of a batch, a page at a
// time.
type resultStore interface {
	BatchJobs(ctx context.Context, b *batch.Batch, after, limit int) ([]*job.Job, error)
	BatchEnds(ctx context.Context, b *batch.Batch, at time.Time, id job.ID, limit int) ([]*job.Job, error)
	BatchRefusals(ctx context.Context, b *batch.Batch, after, limit int) ([]batch.Refusal, error)
	JobsOfBatch(ctx context.Context, b *batch.Batch, state job.State, before job.ID, limit int) ([]*job.Job, error)
}

// orderEnded is ?order= of results by their ends.
const orderEnded = "ended"

// resultPiece is about how much of a list of results is gathered before it is
// sent.
const resultPiece = 64 << 10

// batchID reads the id of the path. What is no id names no batch.
func batchID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	return id, checkBatchID(id)
}

func checkBatchID(id string) error {
	text, ok := strings.CutPrefix(id, "batch_")
	if _, err := job.ParseID("job_" + text); !ok || err != nil {
		return fault.New(fault.NotFound, "there is no such batch")
	}
	return nil
}

// batchOfPath is the account's batch that the path names.
func (s *Server) batchOfPath(r *http.Request, c *call) (*batch.Batch, error) {
	return s.batchNamed(r.Context(), c, r.PathValue("id"))
}

// batchNamed is the account's batch of that id.
func (s *Server) batchNamed(ctx context.Context, c *call, id string) (*batch.Batch, error) {
	if err := checkBatchID(id); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	b, err := s.deps.Store.Batch(ctx, c.account.ID, id)
	if err != nil {
		return nil, unavailable(err, "the archive does not answer at the moment; try again")
	}
	return b, nil
}

// getBatchResults is GET /v1/batches/{id}/results.
func (s *Server) getBatchResults(w http.ResponseWriter, r *http.Request, c *call) error {
	kind, _ := c.query.members["format"].(string)
	if kind == "" {
		kind = format(w, r, c, "jsonl", "csv")
	}
	order, _ := c.query.members["order"].(string)
	after, resumed := c.query.members["after"].(string)
	var from endCursor
	var problems []fault.Field
	if order == orderEnded && kind != "jsonl" && kind != "csv" {
		problems = append(problems, fault.Field{Pointer: "order", Detail: "goes with the formats jsonl and csv"})
	}
	if resumed {
		var ok bool
		if from, ok = parseEndCursor(after); order != orderEnded {
			problems = append(problems, fault.Field{Pointer: "after", Detail: "goes with order=ended"})
		} else if !ok {
			problems = append(problems, fault.Field{Pointer: "after", Detail: "is not a cursor of these results"})
		}
	}
	if err := invalid(problems...); err != nil {
		return err
	}
	b, err := s.batchOfPath(r, c)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Batch-Status", string(b.State))
	h.Set("X-Results-Complete", strconv.FormatBool(b.State.Ended()))
	linger(w, 2*outcomeWithin) // to the first byte; then each piece has its own time
	switch kind {
	case "zip":
		return s.sendZIP(w, r, c, b)
	case "html":
		return s.sendSheet(w, r, c, b)
	}
	list := &resultList{server: s, w: w, name: b.ID, format: kind, headOnly: r.Method == http.MethodHead}
	if order == orderEnded {
		return s.sendEnds(r.Context(), list, b, from)
	}
	o, err := s.outcomes(r.Context(), b)
	if err != nil {
		return err
	}
	defer o.close()
	return list.each(o.next)
}

// An endCursor is how far somebody has read a batch in the order of ends: up to
// the job with this end, and, once all jobs had been read, up to this line of
// those that never became one.
type endCursor struct {
	us   int64
	id   job.ID
	line int
}

func (e endCursor) String() string {
	text := strconv.FormatInt(e.us, 10) + "." + string(e.id)
	if e.line > 0 {
		text += "." + strconv.Itoa(e.line)
	}
	return text
}

func parseEndCursor(text string) (e endCursor, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return e, false
	}
	var bad [3]error
	e.us, bad[0] = strconv.ParseInt(parts[0], 10, 64)
	if parts[1] != "" { // of a batch without any job
		e.id, bad[1] = job.ParseID(parts[1])
	}
	if len(parts) == 3 {
		e.line, bad[2] = strconv.Atoi(parts[2])
	}
	return e, errors.Join(bad[:]...) == nil && e.us >= 0 && e.us < maxCursor && e.line >= 0 && e.line <= batch.MaxNumber && e.String() == text
}

// maxCursor is in the year 9999, the last one that the archive is asked about.
const maxCursor = 253_370_764_800_000_000

// sendEnds answers with the jobs that have ended from behind a cursor on, in the
// order of their ends. When the batch has ended too the lines that became no
// job follow. Its state was read before: by then every job of one that has
// ended is in the archive.
func (s *Server) sendEnds(ctx context.Context, list *resultList, b *batch.Batch, from endCursor) error {
	list.cursors = true
	var page []*job.Job
	ended := false
	now := time.Now()
	err := list.each(func() (*outcome, error) {
		for len(page) == 0 && !ended {
			var err error
			page, err = paged(ctx, func(ctx context.Context) ([]*job.Job, error) {
				return s.deps.Store.BatchEnds(ctx, b, wire.Time(from.us), from.id, outcomePage)
			})
			if err != nil {
				return nil, err
			}
			ended = len(page) < outcomePage
		}
		if len(page) == 0 {
			return nil, io.EOF
		}
		j := page[0]
		page = page[1:]
		from = endCursor{us: wire.Micros(j.FinishedAt), id: j.ID} // of lines without a job all come again
		list.cursor = from
		out := &outcome{line: j.Line, customID: j.CustomID}
		out.ran(j, now)
		return out, nil
	})
	if err != nil || !b.State.Ended() || list.headOnly {
		return err
	}
	o, err := s.outcomes(ctx, b)
	if err != nil {
		return err
	}
	defer o.close()
	return list.each(func() (*outcome, error) {
		for {
			out, err := o.next()
			if err != nil {
				return nil, err
			}
			if out.job == nil && out.line > from.line {
				list.cursor = endCursor{us: from.us, id: from.id, line: out.line}
				return out, nil
			}
		}
	})
}

// resultList writes results as JSON lines or CSV, the head before the first.
type resultList struct {
	server   *Server
	w        http.ResponseWriter
	name     string // of the file
	format   string
	headOnly bool
	cursors  bool      // each has one
	cursor   endCursor // of the present one
	begun    bool
}

// resultHead are the columns of a CSV.
var resultHead = []string{
	"line", "custom_id", "job_id", "status", "url", "content_type", "width", "height", "pages", "size_bytes", "sha256",
	"error_code", "error_detail", "error_stage", "error_retryable",
}

// each writes what next gives until io.EOF. The answer begins with the first
// of it, so that what is wrong before that is told as a problem.
func (l *resultList) each(next func() (*outcome, error)) error {
	var b bytes.Buffer
	table := csv.NewWriter(&b)
	table.UseCRLF = true
	out := steady{l.w}
	send := func() error {
		table.Flush()
		if !l.begun {
			l.begun = true
			attach(l.w, l.name, l.format)
			l.w.WriteHeader(http.StatusOK)
		}
		if l.headOnly {
			return io.EOF
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			return fault.Wrap(fault.Canceled, err, "the client went away")
		}
		b.Reset()
		return nil
	}
	if l.format == "csv" && !l.begun {
		_ = table.Write(l.head()) // into memory
	}
	for {
		o, err := next()
		if err == nil {
			err = l.put(&b, table, o)
		}
		if errors.Is(err, io.EOF) {
			if err = send(); errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err != nil {
			return err
		}
		if table.Flush(); b.Len() >= resultPiece || l.headOnly {
			if err := send(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

func (l *resultList) head() []string {
	if l.cursors {
		return append(append([]string{}, resultHead...), "cursor")
	}
	return resultHead
}

// put adds one result.
func (l *resultList) put(b *bytes.Buffer, table *csv.Writer, o *outcome) error {
	v := presentOutcome(o, l.server.cfg.PublicURL)
	if l.cursors {
		v.Cursor = orNull(l.cursor.String())
	}
	if l.format == "csv" {
		return table.Write(resultCells(v))
	}
	line, err := marshal(v)
	b.Write(append(line, '\n'))
	return err
}

// presentOutcome is what became of a line as the API shows it.
func presentOutcome(o *outcome, base string) *BatchResult {
	v := &BatchResult{Line: o.line, CustomId: orNull(o.customID), Status: Status(o.state), Error: o.failure}
	if o.job != nil {
		v.JobId = orNull(string(o.job.ID))
	}
	if r := o.artifact(); r != nil {
		v.Result = presentResult(r, selfLink(o.job, base)+"/result")
	}
	return v
}

// resultCells are the cells of a result, none of which a spreadsheet takes for
// a formula.
func resultCells(v *BatchResult) []string {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return cell(*s)
	}
	number := func(n *int) string {
		if n == nil {
			return ""
		}
		return strconv.Itoa(*n)
	}
	cells := []string{strconv.Itoa(v.Line), text(v.CustomId), text(v.JobId), string(v.Status)}
	if r := v.Result; r != nil {
		cells = append(cells, cell(r.Url), cell(r.ContentType), number(r.Width), number(r.Height), number(r.Pages), fmt.Sprint(r.SizeBytes), r.Sha256)
	} else {
		cells = append(cells, "", "", "", "", "", "", "")
	}
	if e := v.Error; e != nil {
		cells = append(cells, cell(e.Code), cell(e.Detail), text(e.Stage), strconv.FormatBool(e.Retryable))
	} else {
		cells = append(cells, "", "", "", "")
	}
	if v.Cursor != nil {
		cells = append(cells, *v.Cursor)
	}
	return cells
}
