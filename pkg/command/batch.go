package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// pauseBorne is how long a pause of the batch is waited through.
const pauseBorne = time.Hour

// LinesFailed is a batch that has ended without every artifact.
type LinesFailed struct {
	Batch string
	Text  string
}

func (e *LinesFailed) Error() string { return e.Batch + ": " + e.Text }

// Paused is a batch that does not go on for a while.
type Paused struct {
	Batch string
	Text  string
}

func (e *Paused) Error() string { return e.Batch + ": " + e.Text }

// Batch uploads a file of lines, follows it to its end and writes what it
// makes into a folder.
func Batch(ctx context.Context, t Terminal, cfg config.Batch) error {
	key, err := secret(cfg.Key, cfg.Data, "first.key", "key", "TINTYPE_KEY")
	if err != nil {
		return err
	}
	c, err := client.New(cfg.Server, key)
	if err != nil {
		return &Usage{"--server: " + err.Error()}
	}
	defer c.Close()
	cfg.Server = strings.TrimRight(cfg.Server, "/") // one server has one name in the folder
	b := &batchRun{c: c, t: t, cfg: cfg, show: newBatchProgress(t)}
	b.say = b.show.say
	defer b.show.clear()
	if cfg.Attach != "" {
		return b.attach(ctx)
	}
	defaults, err := lineDefaults(cfg.Defaults, cfg.Options)
	if err != nil {
		return err
	}
	in, err := openInput(t.In, cfg.File, cfg.Format)
	if err != nil {
		return err
	}
	defer in.close()
	if cfg.DryRun {
		return b.dryRun(ctx, in, defaults)
	}
	return b.upload(ctx, in, defaults)
}

// A batchRun is one call of the command.
type batchRun struct {
	c    *client.Client
	t    Terminal
	cfg  config.Batch
	show *batchProgress
	patience
}

// upload makes the batch, or finds the one that an earlier process made of the
// same lines for the same folder.
func (b *batchRun) upload(ctx context.Context, in *input, defaults json.RawMessage) error {
	var folder *resultFolder
	key := ""
	if b.cfg.Output != "-" {
		var err error
		if folder, err = openResults(b.cfg.Output); err != nil {
			return err
		}
		defer folder.close()
		if err := folder.begin(b.cfg.Server, in.name, in.digest(defaults, b.cfg.OnError)); err != nil {
			return err
		}
		if folder.state.Batch != "" {
			b.show.say("%s: going on", folder.state.Batch)
			return b.follow(ctx, folder.state.Batch, folder)
		}
		key = folder.state.Key
	}
	var made *client.Batch
	err := b.try(ctx, func() (err error) {
		made, err = b.c.CreateBatch(ctx, b.input(in, defaults, key))
		return err
	})
	b.show.clear()
	if err != nil {
		if ctx.Err() != nil && folder != nil {
			b.show.say("the upload was interrupted; the same command goes on, and whatever has arrived makes one batch")
		}
		return err
	}
	b.show.say("%s: %s is uploaded", made.Id, in.name)
	if folder != nil {
		folder.state.Batch = made.Id
		if err := folder.save(); err != nil {
			return err
		}
	}
	return b.follow(ctx, made.Id, folder)
}

func (b *batchRun) input(in *input, defaults json.RawMessage, key string) client.BatchInput {
	return client.BatchInput{
		Body: in.body(func(n int64) { b.show.uploaded(n, in.size) }), Size: in.size, ContentType: in.contentType(), Gzip: in.zipped,
		Defaults: defaults, OnError: b.cfg.OnError, Key: key,
	}
}

// attach follows a batch that is there.
func (b *batchRun) attach(ctx context.Context) error {
	if b.cfg.Output == "-" {
		return b.follow(ctx, b.cfg.Attach, nil)
	}
	// A folder is made for a batch that exists.
	err := b.try(ctx, func() error {
		_, err := b.c.Batch(ctx, b.cfg.Attach)
		return err
	})
	if err != nil {
		return err
	}
	folder, err := openResults(b.cfg.Output)
	if err != nil {
		return err
	}
	defer folder.close()
	if err := folder.attach(b.cfg.Server, b.cfg.Attach); err != nil {
		return err
	}
	return b.follow(ctx, b.cfg.Attach, folder)
}

// follow waits for the end of the batch and takes what has ended as it does: into
// the folder, or its lines to standard output.
func (b *batchRun) follow(ctx context.Context, id string, folder *resultFolder) error {
	f := &follower{batchRun: b, id: id, folder: folder}
	end, err := f.run(ctx)
	b.show.clear()
	if err != nil {
		return f.left(ctx, err)
	}
	if b.cfg.JSON {
		if err := printJSON(b.t.Out, end); err != nil {
			return err
		}
	}
	if err := f.report(ctx, end); err != nil {
		return f.left(ctx, err)
	}
	return nil
}

// left says how to go on, where that is possible, when err ends the command.
func (f *follower) left(ctx context.Context, err error) error {
	p, refused := errors.AsType[*client.Problem](err)
	_, failed := errors.AsType[*LinesFailed](err)
	_, paused := errors.AsType[*Paused](err)
	switch {
	case failed, paused: // that says it itself
	case refused && (p.Status == http.StatusNotFound || p.Status == http.StatusGone):
		if f.folder != nil {
			f.show.say("remove %s to begin anew", f.folder.join(stateFile))
		}
	case f.folder != nil:
		f.show.say("%s goes on without this command; the same command again takes up where this one was", f.id)
	case ctx.Err() != nil:
		f.show.say("%s goes on without this command; follow it with --batch %s", f.id, f.id)
	}
	return err
}

// dryRun says what would be made of the file.
func (b *batchRun) dryRun(ctx context.Context, in *input, defaults json.RawMessage) error {
	var would *client.DryRun
	err := b.try(ctx, func() (err error) {
		would, err = b.c.TryBatch(ctx, b.input(in, defaults, ""))
		return err
	})
	b.show.clear()
	if err != nil {
		return err
	}
	if b.cfg.JSON {
		err = printJSON(b.t.Out, would)
	} else {
		err = printDryRun(b.t.Out, would)
	}
	if err != nil {
		return err
	}
	for _, e := range would.Errors[:min(len(would.Errors), shown)] {
		b.show.say("  %s", errorWords(e))
	}
	if len(would.Errors) > shown {
		b.show.say("  and more: --json has the first hundred")
	}
	switch {
	case would.Failure != nil:
		return &LinesFailed{in.name, *would.Failure}
	case would.Invalid > 0:
		return &LinesFailed{in.name, fmt.Sprintf("%s of %s would fail", count(would.Invalid, "line"), thousands(would.Lines))}
	}
	return nil
}

func printDryRun(w io.Writer, d *client.DryRun) error {
	_, err := fmt.Fprintf(w, "lines    %s\nvalid    %s\ninvalid  %s\nprice    %s\n",
		thousands(d.Lines), thousands(d.Valid), thousands(d.Invalid), priceWords(d.Price))
	return err
}

// priceWords say what a batch costs at most.
func priceWords(p client.Price) string {
	s := "at most " + credits(p.Credits)
	if p.Remaining != nil {
		s += fmt.Sprintf(", of %s that are left", credits(*p.Remaining))
	}
	if o := p.Overage; o != nil && o.Credits > 0 {
		s += fmt.Sprintf("; %s beyond the quota cost %s", credits(o.Credits), o.Cost)
	}
	return s
}

func credits(n float64) string {
	if n == 1 {
		return "1 credit"
	}
	return strconv.FormatFloat(n, 'f', -1, 64) + " credits"
}

// longPause is a pause that this command does not wait through.
func longPause(b *client.Batch, now time.Time) error {
	if b.Status != "paused" || b.PausedReason == nil {
		return nil
	}
	switch {
	case b.ResumeAt != nil && b.ResumeAt.Sub(now) <= pauseBorne:
		return nil
	case b.ResumeAt != nil:
		return &Paused{b.Id, fmt.Sprintf("paused (%s) until %s; it goes on by itself then, and so does the same command", *b.PausedReason, b.ResumeAt.Local().Format("2006-01-02 15:04"))}
	case *b.PausedReason == "by_owner":
		return nil // somebody will resume it
	}
	return &Paused{b.Id, fmt.Sprintf("paused (%s) until that is changed; then the same command goes on", *b.PausedReason)}
}
