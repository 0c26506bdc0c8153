package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/webhook"
)

// deliveryStore is the archive's outbox, as its account sees it.
type deliveryStore interface {
	Deliveries(ctx context.Context, accountID string, of webhook.Filter, after webhook.Place, limit int) ([]webhook.Delivery, error)
	Delivery(ctx context.Context, accountID, id string) (webhook.Delivery, error)
	Replay(ctx context.Context, accountID, id string) (webhook.Delivery, error)
	LogTest(ctx context.Context, d webhook.Delivery, o webhook.Outcome) error
}

// listDeliveries is GET /v1/deliveries.
func (s *Server) listDeliveries(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	at, err := parsePlace(after)
	if err != nil {
		return err
	}
	text := func(name string) string {
		value, _ := c.query.members[name].(string)
		return value
	}
	of := webhook.Filter{Endpoint: text("endpoint"), State: webhook.State(text("state")), Type: webhook.Type(text("type")), Subject: text("subject")}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	list, err := s.deps.Store.Deliveries(ctx, c.account.ID, of, at, limit+1)
	if err != nil {
		return archiveDown(err)
	}
	out := DeliveryList{Data: []Delivery{}, HasMore: len(list) > limit}
	if out.HasMore {
		list = list[:limit]
		cursor := placeText(list[limit-1])
		out.NextCursor = &cursor
	}
	for _, d := range list {
		out.Data = append(out.Data, presentDelivery(d))
	}
	return writeJSON(w, http.StatusOK, out)
}

// placeText is the place of a delivery in the list, for a client to show again:
// microseconds and id.
func placeText(d webhook.Delivery) string { return digits(d.CreatedAt.UnixMicro()) + "." + d.ID }

func parsePlace(text string) (webhook.Place, error) {
	if text == "" {
		return webhook.Place{}, nil
	}
	at, id, ok := strings.Cut(text, ".")
	us, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || us <= 0 || us > maxMicros || !isMessage(id) {
		return webhook.Place{}, badCursor()
	}
	return webhook.Place{At: time.UnixMicro(us).UTC(), ID: id}, nil
}

// isMessage reports what may be the id of a message.
func isMessage(id string) bool {
	rest, ok := strings.CutPrefix(id, "msg_")
	return ok && len(rest) == 26 && strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// deliveryID reads the id of the path.
func deliveryID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if !isMessage(id) {
		return "", fault.New(fault.NotFound, "there is no such delivery")
	}
	return id, nil
}

// getDelivery is GET /v1/deliveries/{id}.
func (s *Server) getDelivery(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := deliveryID(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	d, err := s.deps.Store.Delivery(ctx, c.account.ID, id)
	if err != nil {
		return archiveDown(err)
	}
	return writeJSON(w, http.StatusOK, presentDelivery(d))
}

// replayDelivery is POST /v1/deliveries/{id}/replay.
func (s *Server) replayDelivery(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := deliveryID(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	d, err := s.deps.Store.Replay(ctx, c.account.ID, id)
	if err != nil {
		return archiveDown(err)
	}
	w.Header().Set("Location", s.cfg.PublicURL+"/v1/deliveries/"+id)
	return writeJSON(w, http.StatusAccepted, presentDelivery(d))
}

func presentDelivery(d webhook.Delivery) Delivery {
	v := Delivery{
		Id: d.ID, Type: string(d.Type), State: DeliveryState(d.State), EndpointId: orNull(d.Endpoint), Url: orNull(d.URL), Subject: orNull(d.Subject),
		HappenedAt: Time{d.Happened}, CreatedAt: Time{d.CreatedAt}, NextAttemptAt: timeOrNull(d.NextAt), EndedAt: timeOrNull(d.EndedAt),
		Failure: orNull(d.Failure), Attempts: make([]DeliveryAttempt, len(d.Log)), Body: orNull(d.Body),
	}
	for i, a := range d.Log {
		v.Attempts[i] = DeliveryAttempt{
			Number: a.Number, At: Time{a.At}, TookMs: a.Took.Milliseconds(), Status: orNull(a.Status), Error: orNull(a.Error), Answer: a.Answer,
		}
	}
	return v
}
