package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// adminWithin bounds one admin command.
const adminWithin = 30 * time.Second

// asAdmin does something with a client that shows the admin token.
func asAdmin(ctx context.Context, cfg config.AdminClient, do func(context.Context, *client.Client) error) error {
	token, err := secret(cfg.AdminToken, cfg.Data, "admin.token", "admin-token", "TINTYPE_ADMIN_TOKEN")
	if err != nil {
		return err
	}
	c, err := client.New(cfg.Server, token)
	if err != nil {
		return &Usage{"--server: " + err.Error()}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, adminWithin, fmt.Errorf("no answer within %s", adminWithin))
	defer cancel()
	return do(ctx, c)
}

// withAccount is asAdmin for something with the account of that name or id.
func withAccount(ctx context.Context, cfg config.AdminClient, name string, do func(ctx context.Context, c *client.Client, id string) error) error {
	return asAdmin(ctx, cfg, func(ctx context.Context, c *client.Client) error {
		id, err := accountID(ctx, c, name)
		if err != nil {
			return err
		}
		return do(ctx, c, id)
	})
}

// printList prints a list as JSON, or as a table.
func printList[T any](t Terminal, asJSON bool, list []T, header string, row func(io.Writer, T)) error {
	if asJSON {
		return printJSON(t.Out, list)
	}
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, v := range list {
		row(w, v)
	}
	return w.Flush()
}

// CreateAccount makes an account and shows its first key.
func CreateAccount(ctx context.Context, t Terminal, cfg config.AccountCreate) error {
	return asAdmin(ctx, cfg.AdminClient, func(ctx context.Context, c *client.Client) error {
		made, err := c.CreateAccount(ctx, cfg.Name, cfg.Plan)
		if err != nil {
			return err
		}
		if cfg.JSON {
			return printJSON(t.Out, made)
		}
		fmt.Fprintf(t.Err, "account %s (%s, plan %s); its key is shown this once, as is %s, which signs links in its name:\n",
			made.Name, made.Id, made.Plan, made.SigningSecret)
		fmt.Fprintln(t.Out, made.Key)
		return nil
	})
}

// ListAccounts lists every account.
func ListAccounts(ctx context.Context, t Terminal, cfg config.AccountList) error {
	return asAdmin(ctx, cfg.AdminClient, func(ctx context.Context, c *client.Client) error {
		list, err := c.ListAccounts(ctx)
		if err != nil {
			return err
		}
		return printList(t, cfg.JSON, list, "ID\tNAME\tPLAN\tSUSPENDED\tKEYS\tUSED\tCREATED", func(w io.Writer, a client.AccountOverview) {
			used := amount(a.Usage.Used)
			if a.Usage.Limit != nil {
				used += fmt.Sprintf(" of %d", *a.Usage.Limit)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%s\t%s\n", a.Id, a.Name, a.Plan, a.Suspended, a.Keys, used, a.CreatedAt.Format(time.RFC3339))
		})
	})
}

// UpdateAccount changes an account and shows it as it is then.
func UpdateAccount(ctx context.Context, t Terminal, cfg config.AccountUpdate) error {
	var to client.AccountUpdate
	if cfg.Plan != "" {
		to.Plan = &cfg.Plan
	}
	if cfg.BillingDay != 0 {
		to.BillingDay = &cfg.BillingDay
	}
	if cfg.Suspend || cfg.Resume {
		to.Suspended = &cfg.Suspend
	}
	if to == (client.AccountUpdate{}) {
		return &Usage{"nothing to change: give --plan, --suspend, --resume or --billing-day"}
	}
	return withAccount(ctx, cfg.AdminClient, cfg.Account, func(ctx context.Context, c *client.Client, id string) error {
		a, err := c.UpdateAccount(ctx, id, to)
		if err != nil {
			return err
		}
		if cfg.JSON {
			return printJSON(t.Out, a)
		}
		state := "not suspended"
		if a.Suspended {
			state = "suspended"
		}
		fmt.Fprintf(t.Out, "account %s (%s): plan %s, billing day %d, %s\n", a.Name, a.Id, a.Plan, a.BillingDay, state)
		return nil
	})
}

// CreateKey makes a key and shows it.
func CreateKey(ctx context.Context, t Terminal, cfg config.KeyCreate) error {
	return withAccount(ctx, cfg.AdminClient, cfg.Account, func(ctx context.Context, c *client.Client, id string) error {
		made, err := c.CreateKey(ctx, id, keyRequest(cfg, time.Now()))
		if err != nil {
			return err
		}
		if cfg.JSON {
			return printJSON(t.Out, made)
		}
		fmt.Fprintf(t.Err, "key %s; it is shown this once, as is %s, which signs links in its name:\n", made.Id, made.SigningSecret)
		fmt.Fprintln(t.Out, made.Key)
		return nil
	})
}

func keyRequest(cfg config.KeyCreate, now time.Time) client.KeyRequest {
	var req client.KeyRequest
	if cfg.Name != "" {
		req.Name = &cfg.Name
	}
	if len(cfg.Scopes) > 0 {
		names := make([]client.KeyRequestScopes, len(cfg.Scopes))
		for i, s := range cfg.Scopes {
			names[i] = client.KeyRequestScopes(s)
		}
		req.Scopes = &names
	}
	if cfg.Expires > 0 {
		ends := now.Add(cfg.Expires).UTC()
		req.ExpiresAt = &ends
	}
	return req
}

func scopes(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ",")
}

// ListKeys lists an account's keys.
func ListKeys(ctx context.Context, t Terminal, cfg config.KeyList) error {
	return withAccount(ctx, cfg.AdminClient, cfg.Account, func(ctx context.Context, c *client.Client, id string) error {
		list, err := c.ListKeys(ctx, id)
		if err != nil {
			return err
		}
		return printList(t, cfg.JSON, list, "ID\tNAME\tSCOPES\tCREATED\tEXPIRES\tREVOKED", func(w io.Writer, k client.Key) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.Id, k.Name, scopes(k.Scopes), k.CreatedAt.Format(time.RFC3339), when(k.ExpiresAt), when(k.RevokedAt))
		})
	})
}

// RevokeKey revokes a key.
func RevokeKey(ctx context.Context, t Terminal, cfg config.KeyRevoke) error {
	return withAccount(ctx, cfg.AdminClient, cfg.Account, func(ctx context.Context, c *client.Client, id string) error {
		if err := c.RevokeKey(ctx, id, cfg.Key); err != nil {
			return err
		}
		fmt.Fprintf(t.Err, "key %s is revoked\n", cfg.Key)
		return nil
	})
}

// accountID finds the account of that name or id.
func accountID(ctx context.Context, c *client.Client, name string) (string, error) {
	list, err := c.ListAccounts(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range list {
		if a.Name == name || a.Id == name {
			return a.Id, nil
		}
	}
	return "", &Usage{fmt.Sprintf("there is no account %q; tintype account list shows them", name)}
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}
