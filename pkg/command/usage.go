package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// usageWithin bounds an export, whose size nobody knows before.
const usageWithin = 30 * time.Minute

// ShowUsage shows what the key's account used: as a table, as JSON, or as the
// server exports it.
func ShowUsage(ctx context.Context, t Terminal, cfg config.Usage) error {
	key, err := secret(cfg.Key, cfg.Data, "first.key", "key", "TINTYPE_KEY")
	if err != nil {
		return err
	}
	c, err := client.New(cfg.Server, key)
	if err != nil {
		return &Usage{"--server: " + err.Error()}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, usageWithin, fmt.Errorf("not done within %s", usageWithin))
	defer cancel()
	switch {
	case cfg.Events && cfg.CSV:
		return export(t, cfg.Output, func() (io.ReadCloser, error) { return c.UsageEvents(ctx, cfg.Period, "csv") })
	case cfg.Events:
		return export(t, cfg.Output, func() (io.ReadCloser, error) { return c.UsageEvents(ctx, cfg.Period, "jsonl") })
	case cfg.CSV:
		return export(t, cfg.Output, func() (io.ReadCloser, error) { return c.UsageTable(ctx, cfg.Period) })
	}
	u, err := c.Usage(ctx, cfg.Period)
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(t.Out, u)
	}
	return printUsage(t.Out, u)
}

// export copies what the server sends to a file or to standard output. A
// connection that breaks is an error: half an export is not one.
func export(t Terminal, path string, from func() (io.ReadCloser, error)) error {
	body, err := from()
	if err != nil {
		return err
	}
	if path == "-" {
		_, err = io.Copy(t.Out, body)
	} else {
		err = WriteFile(path, body)
	}
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("the export is not whole: %w", err)
	}
	return nil
}

func printUsage(out io.Writer, u *client.Usage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "period\t%s, until %s\n", u.Period, u.ResetsAt.Format(time.DateOnly))
	fmt.Fprintf(w, "plan\t%s\n", u.Plan)
	if u.Limit == nil || u.Unit == nil {
		fmt.Fprintf(w, "used\t%s\n", amount(u.Used))
	} else {
		fmt.Fprintf(w, "used\t%s of %d %ss\n", amount(u.Used), *u.Limit, *u.Unit)
	}
	if u.Pending != nil {
		fmt.Fprintf(w, "pending\t%s\n", amount(*u.Pending))
	}
	if u.Remaining != nil {
		fmt.Fprintf(w, "left\t%d\n", *u.Remaining)
	}
	if o := u.Overage; o != nil {
		fmt.Fprintf(w, "overage\t%s above %d, for %s\n", amount(o.Used), o.Above, o.Cost)
	}
	if err := w.Flush(); err != nil || len(u.ByDay) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nDATE\tUSED\tSUCCEEDED\tCACHED\tFAILED\tCANCELED\tEXPIRED\tCALLS")
	for _, d := range u.ByDay {
		o := d.Outcomes
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", d.Date, amount(d.Used), o.Succeeded, o.Cached, o.Failed, o.Canceled, o.Expired, o.Calls)
	}
	return w.Flush()
}

// amount is a number of credits for people: at most three digits behind the
// point.
func amount(credits float64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(credits, 'f', 3, 64), 64)
	if err != nil {
		rounded = credits
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// ShowAccount shows an account to the admin.
func ShowAccount(ctx context.Context, t Terminal, cfg config.AccountShow) error {
	return withAccount(ctx, cfg.AdminClient, cfg.Account, func(ctx context.Context, c *client.Client, id string) error {
		a, err := c.Account(ctx, id)
		if err != nil {
			return err
		}
		if cfg.JSON {
			return printJSON(t.Out, a)
		}
		w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "id\t%s\nname\t%s\nplan\t%s\nsuspended\t%v\ncreated\t%s\nkeys\t%d\n",
			a.Id, a.Name, a.Plan, a.Suspended, a.CreatedAt.Format(time.RFC3339), a.Keys)
		fmt.Fprintf(w, "period\t%s, until %s\n", a.Usage.Period, a.Usage.ResetsAt.Format(time.DateOnly))
		if a.Usage.Limit == nil || a.Usage.Unit == nil {
			fmt.Fprintf(w, "used\t%s\n", amount(a.Usage.Used))
		} else {
			fmt.Fprintf(w, "used\t%s of %d %ss\n", amount(a.Usage.Used), *a.Usage.Limit, *a.Usage.Unit)
		}
		return w.Flush()
	})
}
