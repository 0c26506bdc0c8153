package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/embed/s3"
	"github.com/tintype/tintype/pkg/telemetry"
)

// storeKeys are the secrets of the stores of a chaos run, which live on
// loopback and for its length.
const (
	storeToken = "chaos"
	storeKey   = "chaos-access"
	storeSwear = "chaos-secret"
)

// storeCmd is one embedded store in a process of its own, so that it can be killed
// and stopped alone.
type storeCmd struct {
	Kind   string `arg:"" enum:"nats,postgres,s3" help:"nats, postgres or s3."`
	Dir    string `required:"" help:"Its data folder."`
	Listen string `help:"HOST:PORT, of nats and s3."`
	Socket string `help:"Folder of the socket, of postgres."`
	Access string `help:"Access key of s3." default:"chaos-access"`
	Secret string `help:"Secret key of s3." default:"chaos-secret"`
}

// Run serves until ctx ends, or the store does.
func (c *storeCmd) Run(ctx context.Context) error {
	log, err := telemetry.Logger(os.Stderr, slog.LevelWarn.String())
	if err != nil {
		return err
	}
	start, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	switch c.Kind {
	case "nats":
		srv, err := nats.New(nats.Config{Dir: c.Dir, MaxStore: 8 << 30, Listen: c.Listen, Token: storeToken, Log: log})
		if err != nil {
			return err
		}
		defer srv.Close()
		fmt.Println("ready")
		<-ctx.Done()
		return nil
	case "postgres":
		srv, err := postgres.New(postgres.Config{Dir: c.Dir, SocketDir: c.Socket, Log: log})
		if err != nil {
			return err
		}
		if err := srv.Start(start); err != nil {
			return err
		}
		fmt.Println("ready", srv.URL())
		select {
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			return srv.Stop(stop)
		case <-srv.Done():
			return srv.Err()
		}
	default:
		srv, err := s3.New(s3.Config{Dir: c.Dir, Addr: c.Listen, AccessKey: c.Access, SecretKey: c.Secret, Log: log})
		if err != nil {
			return err
		}
		if err := srv.Start(start); err != nil {
			return err
		}
		fmt.Println("ready")
		select {
		case <-ctx.Done():
			return srv.Close()
		case <-srv.Done():
			return srv.Err()
		}
	}
}
