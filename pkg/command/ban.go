package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// ListBans lists who is kept out.
func ListBans(ctx context.Context, t Terminal, cfg config.BanList) error {
	return asAdmin(ctx, cfg.AdminClient, func(ctx context.Context, c *client.Client) error {
		list, err := c.ListBans(ctx)
		if err != nil {
			return err
		}
		return printList(t, cfg.JSON, list, "SUBJECT\tSTEP\tSINCE\tUNTIL\tBY\tBLOCKS\tREASON", func(w io.Writer, b client.Ban) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", b.Subject, b.Step, b.Since.Format(time.RFC3339), when(b.Until), b.Actor, b.Blocks, b.Reason)
		})
	})
}

// AddBan keeps somebody out.
func AddBan(ctx context.Context, t Terminal, cfg config.BanAdd) error {
	return asAdmin(ctx, cfg.AdminClient, func(ctx context.Context, c *client.Client) error {
		var until time.Time
		if cfg.For > 0 {
			until = time.Now().Add(cfg.For)
		}
		b, err := c.Ban(ctx, cfg.Subject, until, cfg.Reason)
		if err != nil {
			return err
		}
		if cfg.JSON {
			return printJSON(t.Out, b)
		}
		end := "it is lifted"
		if b.Until != nil {
			end = b.Until.Format(time.RFC3339)
		}
		fmt.Fprintf(t.Err, "%s is kept out until %s\n", b.Subject, end)
		return nil
	})
}

// LiftBan lets somebody in again.
func LiftBan(ctx context.Context, t Terminal, cfg config.BanLift) error {
	return asAdmin(ctx, cfg.AdminClient, func(ctx context.Context, c *client.Client) error {
		if err := c.LiftBan(ctx, cfg.Subject); err != nil {
			return err
		}
		fmt.Fprintf(t.Err, "%s is let in again\n", cfg.Subject)
		return nil
	})
}
