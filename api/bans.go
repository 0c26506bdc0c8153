package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// listBans is GET /admin/v1/bans. The archive has them all at once: they are as
// many as the ladder and admins make in a week.
func (s *Server) listBans(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	bans, err := s.deps.Store.Bans(ctx)
	if err != nil {
		return archiveDown(err)
	}
	now := time.Now()
	bans = slices.DeleteFunc(bans, func(b account.Ban) bool { return !b.InForce(now) })
	slices.SortFunc(bans, func(a, b account.Ban) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Subject.String(), b.Subject.String()))
	})
	if after != "" {
		if bans, err = bansAfter(bans, after); err != nil {
			return err
		}
	}
	out := BanList{Data: []Ban{}, HasMore: len(bans) > limit}
	for _, b := range bans[:min(limit, len(bans))] {
		out.Data = append(out.Data, presentBan(b))
	}
	if out.HasMore {
		last := bans[limit-1]
		cursor := digits(last.Since.UnixMicro()) + "." + last.Subject.String()
		out.NextCursor = &cursor
	}
	return writeJSON(w, http.StatusOK, out)
}

// bansAfter are those behind a cursor: since when, in microseconds, and whom.
func bansAfter(bans []account.Ban, cursor string) ([]account.Ban, error) {
	text, subject, _ := strings.Cut(cursor, ".")
	us, err := strconv.ParseInt(text, 10, 64)
	who, subjectErr := account.ParseSubject(subject)
	if err != nil || subjectErr != nil {
		return nil, badCursor()
	}
	return slices.DeleteFunc(bans, func(b account.Ban) bool {
		return cmp.Or(cmp.Compare(us, b.Since.UnixMicro()), cmp.Compare(b.Subject.String(), who.String())) <= 0
	}), nil
}

// createBan is POST /admin/v1/bans. The leader writes it down and tells every
// replica before it answers.
func (s *Server) createBan(w http.ResponseWriter, r *http.Request, c *call) error {
	var req BanRequest
	if err := read(w, r, c, &req); err != nil {
		return err
	}
	var problems []fault.Field
	who, err := account.ParseSubject(req.Subject)
	if err != nil {
		problems = append(problems, fault.Field{Pointer: "/subject", Detail: err.Error()})
	}
	b := account.Ban{Subject: who, Step: account.StepBanned, Since: time.Now(), Reason: req.Reason, Actor: account.ActorAdmin}
	if req.Until != nil {
		b.Step = account.StepBlocked
		if b.Until = req.Until.Time; !b.InForce(b.Since) {
			problems = append(problems, fault.Field{Pointer: "/until", Detail: "is in the past"})
		} else if b.Until.UTC().Year() > 9999 {
			problems = append(problems, fault.Field{Pointer: "/until", Detail: "is too far; leave it out for good"})
		}
	}
	if err := invalid(problems...); err != nil {
		return err
	}
	if err := s.known(r, who); err != nil {
		return err
	}
	change := &pb.BanChange{Subject: who.String(), Reason: b.Reason}
	if !b.Until.IsZero() {
		change.UntilUs = b.Until.UnixMicro()
	}
	if _, err := s.front.changeBan(r.Context(), change); err != nil {
		return err
	}
	s.log.Info("kept out by an admin", "subject", who.String(), "trace", c.id)
	return writeJSON(w, http.StatusCreated, presentBan(b))
}

// known refuses a key or an account that nobody has, such as one that is given by
// its name: a ban of it would keep nobody out and say that it did. While the
// archive is away the subject is taken as it is written.
func (s *Server) known(r *http.Request, who account.Subject) error {
	ctx, cancel := adminCall(r)
	defer cancel()
	var err error
	switch {
	case who.Kind == account.SubjectKey:
		_, _, err = s.deps.Store.Key(ctx, who.ID)
	case who.Kind == account.SubjectAccount && !account.Anonymous(who.ID):
		_, err = s.deps.Store.Account(ctx, who.ID)
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.NotFound {
		return invalid(fault.Field{Pointer: "/subject", Detail: fmt.Sprintf("there is no %s with the id %s; names are not ids", who.Kind, who.ID)})
	}
	return nil
}

// liftBan is DELETE /admin/v1/bans.
func (s *Server) liftBan(w http.ResponseWriter, r *http.Request, c *call) error {
	who, err := subjectFrom(c)
	if err != nil {
		return err
	}
	if who == "" {
		return invalid(fault.Field{Pointer: "subject", Detail: "is required: whom to let in, as GET /admin/v1/bans lists it"})
	}
	there, err := s.front.changeBan(r.Context(), &pb.BanChange{Subject: who, Lift: true})
	if err != nil {
		return err
	}
	if !there {
		return fault.New(fault.NotFound, "nothing keeps %s out", who)
	}
	s.log.Info("let in by an admin", "subject", who, "trace", c.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// subjectFrom reads ?subject=; empty if there is none.
func subjectFrom(c *call) (string, error) {
	text, ok := c.query.members["subject"].(string)
	if !ok {
		return "", nil
	}
	who, err := account.ParseSubject(text)
	if err != nil {
		return "", invalid(fault.Field{Pointer: "subject", Detail: err.Error()})
	}
	return who.String(), nil
}

// changeBan has the leader keep somebody out, or let them in again. done is
// false where there was nothing to lift.
func (f *front) changeBan(ctx context.Context, change *pb.BanChange) (done bool, err error) {
	a, err := f.pose(ctx, 0, func(up *pb.FrontUp, call uint64) {
		change.Call = call
		up.Bans = append(up.Bans, change)
	})
	if err != nil {
		return false, err
	}
	return a.GetDone(), nil
}

// listAudit is GET /admin/v1/audit.
func (s *Server) listAudit(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	who, err := subjectFrom(c)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	entries, err := s.deps.Store.AuditLog(ctx, who, after, limit+1)
	if err != nil {
		return archiveDown(err)
	}
	out := AuditList{Data: []AuditEntry{}, HasMore: len(entries) > limit}
	for _, e := range entries[:min(limit, len(entries))] {
		out.Data = append(out.Data, AuditEntry{
			Id: e.ID, HappenedAt: Time{e.At}, Actor: e.Actor, Subject: e.Subject, Action: e.Action, Detail: e.Detail,
		})
	}
	if out.HasMore {
		out.NextCursor = &out.Data[limit-1].Id
	}
	return writeJSON(w, http.StatusOK, out)
}

func presentBan(b account.Ban) Ban {
	return Ban{
		Subject: b.Subject.String(), Step: BanStep(b.Step), Since: Time{b.Since}, Until: timeOrNull(b.Until), Reason: b.Reason,
		Actor: BanActor(b.Actor), Blocks: len(b.Blocks),
	}
}
