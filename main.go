// Command tintype is a self-hosted screenshot and PDF farm: a mode for each of
// its tiers, `up` for all of them in one process, and the commands of its
// users and admins.
//
// main reads the configuration, chooses, and turns the end into an exit code;
// the wiring is in pkg/farm, the commands are in pkg/command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/command"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/farm"
	"github.com/tintype/tintype/pkg/farm/doctor"
	"github.com/tintype/tintype/pkg/telemetry"
)

// version is set by the linker (see Makefile).
var version string

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but its exit.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	cfg, err := config.Parse(args, out)
	switch {
	case errors.Is(err, config.ErrHelp):
		return command.ExitDone
	case err != nil:
		fmt.Fprintf(errOut, "tintype: %v\n", err)
		return command.ExitUsage
	}
	log, err := telemetry.Logger(errOut, cfg.LogLevel)
	if err != nil {
		fmt.Fprintf(errOut, "tintype: %v\n", err)
		return command.ExitUsage
	}
	stop, hurry, done := signals(log, cfg.Command)
	defer done()

	reload, ignore := hangups(cfg.Command)
	defer ignore()

	p := &farm.Process{Reload: reload, Log: log, Version: release(), Metrics: telemetry.Registry(release()), Out: out, Hurry: hurry}
	t := command.Terminal{In: in, Out: out, Err: errOut, Live: telemetry.Terminal(errOut)}
	if err = choose(stop, cfg, p, t); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(errOut, "tintype: %v\n", err)
	}
	return exitCode(err)
}

// choose runs the mode or command that the command line names.
func choose(ctx context.Context, cfg *config.Parsed, p *farm.Process, t command.Terminal) error {
	switch cfg.Command {
	case "up":
		return p.Up(ctx, cfg.Up)
	case "api":
		return p.API(ctx, cfg.API)
	case "scheduler":
		return p.Scheduler(ctx, cfg.Scheduler)
	case "worker":
		return p.Worker(ctx, cfg.Worker)
	case "backends":
		return p.Backends(ctx, cfg.Stores)
	case "migrate":
		return p.Migrate(ctx, cfg.Migrate)
	case "shot":
		return command.Shot(ctx, t, cfg.Shot)
	case "pdf":
		return command.PDF(ctx, t, cfg.PDF)
	case "batch":
		return command.Batch(ctx, t, cfg.Batch)
	case "usage":
		return command.ShowUsage(ctx, t, cfg.Usage)
	case "account create":
		return command.CreateAccount(ctx, t, cfg.Account.Create)
	case "account list":
		return command.ListAccounts(ctx, t, cfg.Account.List)
	case "account show":
		return command.ShowAccount(ctx, t, cfg.Account.Show)
	case "account update":
		return command.UpdateAccount(ctx, t, cfg.Account.Update)
	case "ban list":
		return command.ListBans(ctx, t, cfg.Ban.List)
	case "ban add":
		return command.AddBan(ctx, t, cfg.Ban.Add)
	case "ban lift":
		return command.LiftBan(ctx, t, cfg.Ban.Lift)
	case "key create":
		return command.CreateKey(ctx, t, cfg.Key.Create)
	case "key list":
		return command.ListKeys(ctx, t, cfg.Key.List)
	case "key revoke":
		return command.RevokeKey(ctx, t, cfg.Key.Revoke)
	case "key sign":
		return command.SignLink(t, cfg.Key.Sign)
	case "policy check":
		return command.CheckPolicy(t, cfg.Policy.Check)
	case "policy show":
		return command.ShowPolicy(ctx, t, cfg.Policy.Show)
	case "healthcheck":
		return command.Healthcheck(ctx, t, cfg.Healthcheck)
	case "doctor":
		return doctor.Run(ctx, t.Out, cfg.Doctor)
	case "config":
		return config.Print(t.Out, cfg.Settings, cfg.Config.Config.JSON)
	case "version":
		return command.Version(ctx, t, p.Version, cfg.Version.ChromiumBin)
	}
	return fmt.Errorf("command %q has no implementation", cfg.Command) // the grammar knows it: a bug
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*farm.InUse](err); ok {
		return command.ExitUsage
	}
	if _, ok := errors.AsType[*farm.WrongKey](err); ok {
		return command.ExitUsage
	}
	if _, ok := errors.AsType[*account.PolicyError](err); ok {
		return command.ExitUsage
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return command.ExitUsage // the address is taken, or not this machine's
	}
	if _, ok := errors.AsType[*farm.Unreachable](err); ok {
		return command.ExitUnreachable
	}
	return command.ExitCode(err)
}

// signals gives the context that ends with the first SIGINT or SIGTERM, stop,
// and the one that ends with the second, hurry. A third kills. done gives the
// signals back.
func signals(log *slog.Logger, mode string) (stop, hurry context.Context, done func()) {
	stop, cancelStop := context.WithCancel(context.Background())
	hurry, cancelHurry := context.WithCancel(context.Background())
	seen := make(chan os.Signal, 2)
	signal.Notify(seen, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for _, cancel := range []context.CancelFunc{cancelStop, cancelHurry} {
			select {
			case s := <-seen:
				log.Debug("signal", "kind", s.String(), "mode", mode)
				cancel()
			case <-ended:
				return
			}
		}
		signal.Stop(seen)
	}()
	return stop, hurry, func() {
		signal.Stop(seen)
		close(ended)
		<-gone
		cancelStop()
		cancelHurry()
	}
}

// hangups are the SIGHUPs of a mode that has a policy to read anew. Any other
// command ends by one.
func hangups(mode string) (<-chan os.Signal, func()) {
	switch mode {
	case "up", "api", "scheduler":
		seen := make(chan os.Signal, 1)
		signal.Notify(seen, syscall.SIGHUP)
		return seen, func() { signal.Stop(seen) }
	}
	return nil, func() {}
}

// release is the version that the linker set, else the one that Go knows.
func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
