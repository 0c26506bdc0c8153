package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tintype/tintype/loadtest/plant"
)

// plantsDir is where the planted bugs are, from the root.
const plantsDir = "loadtest/testdata/plants"

// plants plants each bug in a copy and runs the test that must notice it.
type plants struct {
	Root  string   `default:"." type:"existingdir" help:"Root of the tree."`
	Bare  bool     `help:"Do not run the tests without the bug first."`
	Names []string `arg:"" optional:"" help:"Plants to run; all when none is named."`
}

// Run fails if a bug went unnoticed.
func (c *plants) Run(ctx context.Context) error {
	all, err := plant.Read(c.Root + "/" + plantsDir)
	if err != nil {
		return err
	}
	for _, name := range c.Names {
		if !slices.ContainsFunc(all, func(p *plant.Plant) bool { return p.Name == name }) {
			return fmt.Errorf("there is no plant %s", name)
		}
	}
	if len(c.Names) > 0 {
		all = slices.DeleteFunc(all, func(p *plant.Plant) bool { return !slices.Contains(c.Names, p.Name) })
	}
	if !c.Bare {
		if err := plant.Green(ctx, c.Root, all); err != nil {
			return err
		}
	}
	var wrong []string
	for _, p := range all {
		began := time.Now()
		err := p.Kill(ctx, c.Root)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		verdict := "noticed"
		if err != nil {
			verdict = "NOT NOTICED"
			wrong = append(wrong, fmt.Sprintf("%s (%s): %v", p.Name, p.Bug, err))
		}
		fmt.Fprintf(os.Stdout, "%-12s %-28s %s %s %.1fs\n", verdict, p.Name, p.Package, p.Test, time.Since(began).Seconds())
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}
