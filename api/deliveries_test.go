package api

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/webhook"
)

func TestDeliveries(t *testing.T) {
	f := newFarm(t)
	begin := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	var want []string
	for i := range 7 {
		want = append(want, f.newDelivery(func(d *webhook.Delivery) { d.CreatedAt = begin.Add(time.Duration(i/2) * time.Second) }).ID)
	}
	slices.Reverse(want)
	f.newDelivery(func(d *webhook.Delivery) { d.Account = "acc_other" })
	var got []string
	for after := ""; ; {
		a := f.do("GET", "/v1/deliveries?limit=3"+after, "")
		var page DeliveryList
		a.json(t, &page)
		for _, d := range page.Data {
			got = append(got, d.Id)
			if d.Body != nil || len(d.Attempts) != 1 || *d.Attempts[0].Status != 500 || d.Attempts[0].Answer != "not now" || d.Attempts[0].TookMs != 1 || d.Attempts[0].Error != nil {
				t.Errorf("%s", a.Body)
			}
		}
		if page.HasMore != (page.NextCursor != nil) {
			t.Errorf("%s", a.Body)
		}
		if !page.HasMore {
			break
		}
		after = "&after=" + *page.NextCursor
	}
	for i := 0; i+1 < len(want); i++ { // those of one moment come by id
		if i%2 == 1 && want[i] < want[i+1] {
			want[i], want[i+1] = want[i+1], want[i]
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var one Delivery
	f.do("GET", "/v1/deliveries/"+got[0], "").json(t, &one)
	if one.Id != got[0] || one.Body == nil || one.State != "pending" || one.NextAttemptAt == nil || one.EndedAt != nil || one.Url != nil || one.EndpointId == nil {
		t.Errorf("%+v", one)
	}
}

func TestDeliveriesFiltered(t *testing.T) {
	f := newFarm(t)
	a := f.newDelivery(func(d *webhook.Delivery) { d.State, d.Failure = webhook.Failed, "it would not" })
	b := f.newDelivery(func(d *webhook.Delivery) {
		d.Type, d.Subject, d.Endpoint, d.URL = webhook.QuotaWarning, "", "", "https://example.com/"
	})
	for query, want := range map[string]string{
		"endpoint=" + a.Endpoint: a.ID, "state=failed": a.ID, "state=pending": b.ID, "type=quota.warning": b.ID, "subject=" + a.Subject: a.ID, "state=delivered": "",
	} {
		var page DeliveryList
		f.do("GET", "/v1/deliveries?"+query, "").json(t, &page)
		if got := append(page.Data, Delivery{})[0].Id; got != want || len(page.Data) > 1 {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for query, pointer := range map[string]string{"state=sent": "state", "type=job.done": "type", "after=x": "after", "after=1.msg_1": "after", "after=-1." + a.ID: "after", "stat=x": "stat", "limit=0": "limit"} {
		p := f.do("GET", "/v1/deliveries?"+query, "").problem(t, 400, "invalid_input")
		if (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, path := range []string{"/v1/deliveries/msg_1", "/v1/deliveries/" + a.ID + "0", "/v1/deliveries/job_01", "/v1/deliveries/" + webhook.DeliveryID("x", "", "", "", "")} {
		f.do("GET", path, "").problem(t, 404, "not_found")
		f.do("POST", path+"/replay", "").problem(t, 404, "not_found")
	}
}

func TestReplayDelivery(t *testing.T) {
	f := newFarm(t)
	d := f.newDelivery(func(d *webhook.Delivery) {
		d.State, d.Failure, d.EndedAt, d.NextAt = webhook.Failed, "each of 10 attempts failed", time.Now(), time.Time{}
	})
	a := f.do("POST", "/v1/deliveries/"+d.ID+"/replay", "")
	var again Delivery
	a.json(t, &again)
	if a.Code != http.StatusAccepted || again.Id != d.ID || again.State != "pending" || again.Failure != nil || again.NextAttemptAt == nil || a.Header().Get("Location") != "/v1/deliveries/"+d.ID {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}
