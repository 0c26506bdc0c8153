package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/option"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// decideWithin bounds publish and decision together. The leader refuses
	// records older than 12 s, so what is not decided by then hardly will be.
	decideWithin = 10 * time.Second
	// inlineSpec is the largest spec that travels in its record; a larger one
	// goes through the bucket.
	inlineSpec = 16 << 10
	// bucketWithin bounds a put or get of a spec or an artifact's head.
	bucketWithin = 10 * time.Second
)

// submission is a request that passed every check that needs no decision.
type submission struct {
	spec     job.Spec
	customID string
	metadata map[string]string
	ttlS     *int // nil: as the plan says
	force    bool
	stale    bool         // what is cached is older than it may be
	line     *lineOf      // of a batch; nil: of none
	webhook  *job.Webhook // told of the end; nil: only endpoints are
}

// submitJob is POST /v1/jobs.
func (s *Server) submitJob(w http.ResponseWriter, r *http.Request, c *call) error {
	wait, applied, err := waitFrom(r, c.query)
	if err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	in, err := c.op.decodeBody(body)
	if err != nil {
		return err
	}
	sub, err := submissionFrom(in, job.PNG, s.terms(c.account.ID, c.plan))
	if err != nil {
		return err
	}
	key, err := s.keyedBy(c, r, in)
	if err != nil {
		return err
	}
	linger(w, decideWithin+wait)
	j, replay, err := s.submit(r.Context(), c, sub, key)
	if err != nil {
		s.throttled(c, fault.From(err))
		return err
	}
	sub.tellStale(w.Header())
	if replay {
		w.Header().Set("X-Idempotent-Replay", "true")
	}
	if wait > 0 && !j.State.Terminal() {
		// Accepted is accepted: whatever goes wrong while waiting is a 202.
		if later, err := s.await(r.Context(), j.ID, c.account.ID, wait, s.draining, true); err == nil {
			j = later
		}
	}
	status := http.StatusAccepted
	if j.State.Terminal() {
		status = http.StatusOK
		describe(w.Header(), j)
	}
	return s.writeJob(w, status, j, applied)
}

// terms are what a request is held against beside the contract.
type terms struct {
	plan    account.Plan
	allHTTP bool // webhooks may go to http addresses
	keyless bool // it is of a client without a key, who is told nothing
	partial bool // it is what lines have in common: each says the rest
}

// sources are the fields of which one says what to render.
var sources = []string{"url", "html", "markdown"}

// terms are those of an account on this plan.
func (s *Server) terms(accountID string, plan account.Plan) terms {
	return terms{plan: plan, allHTTP: s.cfg.WebhookAllowHTTP, keyless: account.Anonymous(accountID)}
}

// submissionFrom reads the request out of the input. Its error tells all that
// is wrong, of the input and of the spec.
func submissionFrom(in *input, format job.Format, by terms) (*submission, error) {
	plan := by.plan
	in.receiver("webhook_url", by.allHTTP)
	var req JobRequest
	if err := in.into(&req); err != nil {
		return nil, err
	}
	sub := &submission{spec: job.Defaults(), customID: deref(req.CustomId)}
	if req.Metadata != nil {
		sub.metadata = *req.Metadata
	}
	sub.ttlS, sub.force = req.TtlS, deref(req.Force)
	sub.webhook = in.webhook(&req, by.keyless)
	spec := &sub.spec
	spec.Format = format
	spec.TimeoutMS = min(spec.TimeoutMS, int(plan.Wall.Milliseconds())) // the default must fit every plan
	if err := errors.Join(in.into(spec), in.into(&spec.Secrets)); err != nil {
		return nil, err
	}
	spec.Wear(in.says)
	if req.Retina != nil && *req.Retina {
		if req.DeviceScaleFactor != nil && *req.DeviceScaleFactor != 2 {
			in.add(in.prefix+"retina", "is device_scale_factor 2, and device_scale_factor says otherwise; give one of the two")
		} else {
			spec.DeviceScaleFactor = 2
		}
	}
	if len(plan.Formats) > 0 && slices.Contains(job.Formats, spec.Format) && !slices.Contains(plan.Formats, spec.Format) {
		in.add(in.prefix+"format", fmt.Sprintf("is %s, and the plan %s offers %s", spec.Format, plan.Name, formatsOf(plan)))
	}
	in.judgeNames(in.prefix+"metadata/", sub.metadata)
	return sub, in.judge(spec.Normalize(int(plan.Wall.Milliseconds())), by)
}

// judgeNames checks the names of metadata, which the contract cannot.
func (in *input) judgeNames(prefix string, metadata map[string]string) {
	for name := range metadata {
		if n := utf8.RuneCountInString(name); n < 1 || n > 64 {
			in.add(prefix+escape(name), "has a name that is not 1 to 64 characters long")
		}
	}
}

// webhook is whom the request wants told of its end.
func (in *input) webhook(req *JobRequest, keyless bool) *job.Webhook {
	switch {
	case req.WebhookUrl == nil:
		if req.WebhookEvents != nil && !in.saidOf("webhook_url") {
			in.add(in.prefix+"webhook_events", "says what webhook_url is told of, and there is none; give both")
		}
		return nil
	case keyless:
		in.add(in.prefix+"webhook_url", "is signed with an account's secret: send an API key, or leave it out and poll")
		return nil
	}
	w := &job.Webhook{URL: *req.WebhookUrl}
	for _, e := range deref(req.WebhookEvents) {
		w.Events = append(w.Events, string(e))
	}
	return w
}

// formatsOf are those of a plan that has not all, as text.
func formatsOf(plan account.Plan) string {
	names := make([]string, len(plan.Formats))
	for i, f := range plan.Formats {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// judge joins what the contract found wrong with what the domain did, whose
// words are better where both speak of one field.
func (in *input) judge(wrong []*job.FieldError, by terms) error {
	onlyURL := len(in.problems) == 0 && len(wrong) > 0
	for _, e := range wrong {
		onlyURL = onlyURL && e.URL
		at := in.prefix + e.Field
		i := slices.IndexFunc(in.problems, func(f fault.Field) bool { return f.Pointer == at })
		_, there := in.members[e.Field]
		switch {
		case by.partial && e.Others:
			// The lines may say the rest.
		case i < 0 && in.dropped && slices.Contains(sources, e.Field) && in.saidOf(sources...):
			// The source was taken out for its type: it is not missing.
		case i < 0:
			in.add(at, e.Detail)
		case there && !(e.Field == "format" && option.FormatElsewhere(fmt.Sprint(in.members["format"])) == ""): // of formats the contract's list may be shorter
			in.problems[i].Detail = e.Detail
		}
	}
	err := invalid(in.problems...)
	if onlyURL {
		fault.From(err).Code = "invalid_url"
	}
	return err
}

// saidOf reports whether a problem of one of the fields is known.
func (in *input) saidOf(fields ...string) bool {
	return slices.ContainsFunc(fields, func(f string) bool { return in.has(in.prefix + f) })
}

// submit publishes the job and waits for its decision. The job that it
// returns is accepted durably; a replay is an earlier one of the same key,
// which may have ended. The client's going away does not stop it: the outcome
// would be open.
func (s *Server) submit(client context.Context, c *call, sub *submission, key *keyed) (j *job.Job, replay bool, err error) {
	acct := c.account
	ctx, cancel := s.detached(client, decideWithin, errors.New("no decision came in time"))
	defer cancel()
	j = &job.Job{
		ID: job.NewID(), Account: acct.ID, State: job.Queued,
		CustomID: sub.customID, Metadata: sub.metadata, Options: sub.spec.Marshal(),
	}
	if sub.line != nil {
		j.ID = sub.line.id
	}
	env := &pb.Envelope{
		Id: string(j.ID), Account: acct.ID, Api: s.boot,
		Host: sub.spec.Host(), ContentType: sub.spec.Format.ContentType(),
		Key: c.who.key, Address: c.who.address,
	}
	// Before the archive is read: the leader relies on it when it forgets.
	var unled error
	env.SentUs, unled = s.front.clock()
	if line := sub.line; line != nil {
		if unled == nil {
			line.known, err = line.begin(ctx, s, env)
		}
		if line.known || err != nil {
			return j, false, err
		}
	}
	if key != nil {
		env.KeyHash, env.Fingerprint = key.hash, key.fingerprint
		var old *job.Job
		if old, env.ArchiveUnread, err = s.remembered(ctx, acct.ID, key); old != nil || err != nil {
			s.metrics.submitted(err, true)
			return old, true, err
		}
	}
	if unled != nil {
		return nil, false, unled
	}
	s.fillCache(ctx, env, sub, c.plan)
	asks := s.askedBy(acct, sub)
	if key == nil && env.Hit == nil { // a key may name a job that is there already
		if again := s.refused.find(asks, time.Now()); again != nil {
			s.metrics.spared.Inc()
			return nil, false, again
		}
	}
	decision, err := s.front.expect(ctx, j.ID)
	if err != nil {
		return nil, false, err
	}
	defer decision.forget()
	rec := &pb.Record{Envelope: env, Body: &pb.Body{CustomId: sub.customID, Metadata: sub.metadata, Webhook: wire.Webhook(sub.webhook)}}
	if err := s.placeSpec(ctx, j, sub.spec, rec.Body); err != nil {
		return nil, false, err
	}
	var same string
	if err = s.publish(ctx, rec, decision); err == nil {
		metersOf(client).hear(decision.verdict.GetMeters())
		same = decision.verdict.GetSameAs()
		if err = accepted(decision.verdict, j); decision.verdict.GetAccepted().GetEnded() != nil {
			if sub.ended(decision.verdict.GetAccepted().Ended, env.Hit); sub.stale {
				s.refreshes.begin(s, env, sub.spec)
			}
		} else {
			sub.stale = false
			if same == "" {
				s.refused.learn(asks, err, time.Now())
			}
		}
	}
	if rec.Body.SpecObject != "" && !(sub.line != nil && sub.line.ask) && (same != "" || j.State.Terminal() || surelyRefused(err)) {
		s.discard(rec.Body.SpecObject)
	}
	s.metrics.submitted(err, same != "")
	switch {
	case err != nil:
		return nil, false, err
	case same != "":
		j, err = s.find(ctx, job.ID(same), acct.ID, 0)
		return j, true, err
	}
	return j, false, nil
}

// detached is a context that the client's going away does not end, but the
// end of the process does.
func (s *Server) detached(client context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(client), d, cause)
	stop := context.AfterFunc(s.hard, cancel)
	return ctx, func() { stop(); cancel() }
}

// placeSpec puts the spec into the body, by way of the bucket if it is large,
// and its secrets sealed beside it.
func (s *Server) placeSpec(ctx context.Context, j *job.Job, spec job.Spec, body *pb.Body) error {
	body.Spec, body.Secrets = j.Options, s.sealed(j.Account, &spec.Secrets)
	if len(j.Options) <= inlineSpec {
		return nil
	}
	key := fmt.Sprintf("s/%s/%s.json", j.Account, j.ID)
	err := s.deps.Bucket.Put(ctx, key, bytes.NewReader(j.Options), int64(len(j.Options)), "application/json")
	if err != nil && !errors.Is(err, object.ErrExists) { // a line of a batch that was published before has the same
		return fault.Wrap(fault.Unavailable, err, "the request is large and the object store does not take it at the moment; try again")
	}
	spec = spec.Brief()
	j.Options = spec.Marshal()
	body.Spec, body.SpecObject = j.Options, key
	return nil
}

// discard removes the stored spec of a job that will not be.
func (s *Server) discard(key string) {
	ctx, cancel := context.WithTimeoutCause(s.hard, bucketWithin, errors.New("the object store did not delete in time"))
	defer cancel()
	if err := s.deps.Bucket.Delete(ctx, key); err != nil {
		s.log.Warn("the spec of a refused job stays in the bucket", "err", err)
	}
}

// publish sends the record once and returns when its decision is made. A
// fault of the door means that nothing was stored. Any other error leaves it
// open, and the decision is waited for: the record is never sent again.
func (s *Server) publish(ctx context.Context, rec *pb.Record, d *decision) error {
	door, cancel := context.WithCancel(ctx)
	defer cancel()
	d.onceMade(cancel) // it may overtake the acknowledgement
	seq, err := s.deps.Door.Publish(door, rec)
	if refused, ok := errors.AsType[*fault.Error](err); ok {
		select {
		case <-d.made:
			return nil
		default:
			return refused
		}
	}
	if err == nil {
		d.stored(seq)
	}
	select {
	case <-d.made:
		return nil
	case <-ctx.Done():
		how := "look for job_id, and if it is not there after 15 seconds it was not"
		if len(rec.Envelope.KeyHash) > 0 {
			how = "repeat the request with the same Idempotency-Key"
		}
		return &fault.Error{
			Kind: fault.Unavailable, RetryAfter: 5 * time.Second, Err: errors.Join(err, context.Cause(ctx)),
			Detail: "no decision came in time; the job may have been accepted: " + how,
			Extra:  map[string]any{"job_id": rec.Envelope.Id},
		}
	}
}

// surelyRefused reports an error that says the job is not and will not be.
func surelyRefused(err error) bool {
	f := fault.From(err)
	return f != nil && f.Extra["job_id"] == nil
}

// accepted writes the verdict into the job, or is the refusal.
func accepted(d *pb.Decision, j *job.Job) error {
	switch v := d.Verdict.(type) {
	case *pb.Decision_Accepted:
		if end := v.Accepted.Ended; end != nil {
			*j = *wire.FromJob(end)
			return nil
		}
		j.Tier, j.CreatedAt = int(v.Accepted.Tier), wire.Time(v.Accepted.AcceptedUs)
		j.WaitingFor = job.WaitingForWorker
		switch v.Accepted.Place {
		case pb.Place_PLACE_PARKED:
			j.WaitingFor = job.WaitingForSlot
		case pb.Place_PLACE_FOLLOWER:
			j.WaitingFor = job.WaitingForTwin
		}
		return nil
	case *pb.Decision_SameAs:
		return nil
	case *pb.Decision_Refused:
		return wire.FromFault(v.Refused)
	}
	return fault.New(fault.Internal, "decision on %s says nothing", j.ID)
}

// writeJob answers with a job.
func (s *Server) writeJob(w http.ResponseWriter, status int, j *job.Job, applied string) error {
	v, err := show(j, s.cfg.PublicURL)
	if err != nil {
		return err
	}
	if status == http.StatusAccepted {
		w.Header().Set("Location", selfLink(j, s.cfg.PublicURL))
	}
	timing(w.Header(), j)
	if applied != "" {
		w.Header().Set("Preference-Applied", applied)
	}
	return writeJSON(w, status, v)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func deref[T any](p *T) T {
	var v T
	set(&v, p)
	return v
}
