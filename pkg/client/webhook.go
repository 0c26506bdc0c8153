package client

import (
	"context"
	"iter"
	"net/http"
)

// CreateWebhookEndpoint adds an address that is told of events. Its secret is
// in the answer, this once.
func (c *Client) CreateWebhookEndpoint(ctx context.Context, req WebhookEndpointRequest) (*NewWebhookEndpoint, error) {
	return call[NewWebhookEndpoint](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.CreateWebhookEndpoint(ctx, req)
	})
}

// ListWebhookEndpoints lists the account's endpoints, the oldest first.
func (c *Client) ListWebhookEndpoints(ctx context.Context) ([]WebhookEndpoint, error) {
	limit := mostOnPage
	return gathered(func(after *string) ([]WebhookEndpoint, *string, error) {
		page, err := call[WebhookEndpointList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
			return c.raw.ListWebhookEndpoints(ctx, &ListWebhookEndpointsParams{Limit: &limit, After: after})
		})
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// WebhookEndpoint looks an endpoint up.
func (c *Client) WebhookEndpoint(ctx context.Context, id string) (*WebhookEndpoint, error) {
	return call[WebhookEndpoint](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.GetWebhookEndpoint(ctx, id)
	})
}

// UpdateWebhookEndpoint changes an endpoint; what is nil stays as it is.
func (c *Client) UpdateWebhookEndpoint(ctx context.Context, id string, to WebhookEndpointUpdate) (*WebhookEndpoint, error) {
	return call[WebhookEndpoint](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.UpdateWebhookEndpoint(ctx, id, to)
	})
}

// DeleteWebhookEndpoint removes an endpoint, with what waits to be sent there.
func (c *Client) DeleteWebhookEndpoint(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.DeleteWebhookEndpoint(ctx, id)
	})
	return err
}

// RotateWebhookEndpoint gives an endpoint a new secret, which is in the answer,
// this once; the one before signs as well for 24 hours.
func (c *Client) RotateWebhookEndpoint(ctx context.Context, id string) (*NewWebhookEndpoint, error) {
	return call[NewWebhookEndpoint](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.RotateWebhookEndpoint(ctx, id)
	})
}

// TestWebhookEndpoint sends a message to an endpoint and says what came of it.
func (c *Client) TestWebhookEndpoint(ctx context.Context, id string) (*Delivery, error) {
	return call[Delivery](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		return c.raw.TestWebhookEndpoint(ctx, id)
	})
}

// WebhookSecret is what signs messages to a job's or a batch's own webhook_url.
func (c *Client) WebhookSecret(ctx context.Context) (*WebhookSecret, error) {
	return call[WebhookSecret](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.GetWebhookSecret(ctx) })
}

// RotateWebhookSecret replaces it; the one before signs as well for 24 hours.
func (c *Client) RotateWebhookSecret(ctx context.Context) (*WebhookSecret, error) {
	return call[WebhookSecret](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.RotateWebhookSecret(ctx) })
}

// Deliveries are the messages of the account, the newest first, each with every
// attempt. of says which; its Limit and After are not needed.
func (c *Client) Deliveries(ctx context.Context, of ListDeliveriesParams) iter.Seq2[*Delivery, error] {
	return listed(func(after *string) ([]Delivery, *string, error) {
		from := of
		if after != nil {
			from.After = after
		}
		page, err := call[DeliveryList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ListDeliveries(ctx, &from) })
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// Delivery looks a message up, with its body.
func (c *Client) Delivery(ctx context.Context, id string) (*Delivery, error) {
	return call[Delivery](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.GetDelivery(ctx, id) })
}

// ReplayDelivery sends a message again, under its id.
func (c *Client) ReplayDelivery(ctx context.Context, id string) (*Delivery, error) {
	return call[Delivery](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ReplayDelivery(ctx, id) })
}
