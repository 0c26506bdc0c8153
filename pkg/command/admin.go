package command

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// adminWithin bounds one admin command.
const adminWithin = 30 * time.Second

// admin opens a client that shows the admin token.
func admin(ctx context.Context, cfg config.AdminClient) (context.Context, context.CancelFunc, *client.Client, error) {
	token, err := secret(cfg.AdminToken, cfg.Data, "admin.token", "admin-token", "TINTYPE_ADMIN_TOKEN")
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := client.New(cfg.Server, token)
	if err != nil {
		return nil, nil, nil, &Usage{"--server: " + err.Error()}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, adminWithin, fmt.Errorf("no answer within %s", adminWithin))
	return ctx, func() { cancel(); c.Close() }, c, nil
}

// CreateAccount makes an account and shows its first key.
func CreateAccount(ctx context.Context, t Terminal, cfg config.AccountCreate) error {
	ctx, done, c, err := admin(ctx, cfg.AdminClient)
	if err != nil {
		return err
	}
	defer done()
	made, err := c.CreateAccount(ctx, cfg.Name, cfg.Plan)
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, made)
	}
	fmt.Fprintf(t.Err, "account %s (%s, plan %s); its key is shown this once:\n", made.Name, made.Id, made.Plan)
	fmt.Fprintln(t.Out, made.Key)
	return nil
}

// ListAccounts lists every account.
func ListAccounts(ctx context.Context, t Terminal, cfg config.AccountList) error {
	ctx, done, c, err := admin(ctx, cfg.AdminClient)
	if err != nil {
		return err
	}
	defer done()
	list, err := c.ListAccounts(ctx)
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, list)
	}
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tPLAN\tSUSPENDED\tCREATED")
	for _, a := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s\n", a.Id, a.Name, a.Plan, a.Suspended, a.CreatedAt.Format(time.RFC3339))
	}
	return w.Flush()
}

// CreateKey makes a key and shows it.
func CreateKey(ctx context.Context, t Terminal, cfg config.KeyCreate) error {
	ctx, done, c, err := admin(ctx, cfg.AdminClient)
	if err != nil {
		return err
	}
	defer done()
	id, err := accountID(ctx, c, cfg.Account)
	if err != nil {
		return err
	}
	made, err := c.CreateKey(ctx, id, cfg.Name)
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, made)
	}
	fmt.Fprintf(t.Err, "key %s; it is shown this once:\n", made.Id)
	fmt.Fprintln(t.Out, made.Key)
	return nil
}

// ListKeys lists an account's keys.
func ListKeys(ctx context.Context, t Terminal, cfg config.KeyList) error {
	ctx, done, c, err := admin(ctx, cfg.AdminClient)
	if err != nil {
		return err
	}
	defer done()
	id, err := accountID(ctx, c, cfg.Account)
	if err != nil {
		return err
	}
	list, err := c.ListKeys(ctx, id)
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, list)
	}
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tCREATED\tEXPIRES\tREVOKED")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Id, k.Name, k.CreatedAt.Format(time.RFC3339), when(k.ExpiresAt), when(k.RevokedAt))
	}
	return w.Flush()
}

// RevokeKey revokes a key.
func RevokeKey(ctx context.Context, t Terminal, cfg config.KeyRevoke) error {
	ctx, done, c, err := admin(ctx, cfg.AdminClient)
	if err != nil {
		return err
	}
	defer done()
	id, err := accountID(ctx, c, cfg.Account)
	if err != nil {
		return err
	}
	if err := c.RevokeKey(ctx, id, cfg.Key); err != nil {
		return err
	}
	fmt.Fprintf(t.Err, "key %s is revoked\n", cfg.Key)
	return nil
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
