package plant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// testWithin bounds one test: a bug may also show as a test that hangs.
const testWithin = 90 * time.Second

// Plant is one bug.
type Plant struct {
	Name    string // of its file, without .patch
	Bug     string // in words
	Package string // of the test, such as ./scheduler
	Test    string // for -run
	files   map[string][]hunk
}

// Read reads the plants of a folder, in order of their names.
//
// A plant's file begins with lines "Bug: …", "Package: ./…" and "Test: ^…$",
// and a blank one; the rest is a unified diff against the root.
func Read(dir string) ([]*Plant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no plants in %s", dir)
	}
	var plants []*Plant
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p.Name = strings.TrimSuffix(filepath.Base(path), ".patch")
		plants = append(plants, p)
	}
	return plants, nil
}

func parse(text string) (*Plant, error) {
	head, diff, found := strings.Cut(text, "\n\n")
	if !found {
		return nil, errors.New("no blank line between head and diff")
	}
	p := new(Plant)
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "Bug":
			p.Bug = value
		case "Package":
			p.Package = value
		case "Test":
			p.Test = value
		default:
			return nil, fmt.Errorf("head line %q; want Bug, Package and Test", line)
		}
	}
	if p.Bug == "" || !strings.HasPrefix(p.Package, "./") || p.Test == "" {
		return nil, errors.New("the head wants Bug, Package (./…) and Test")
	}
	if _, err := regexp.Compile(p.Test); err != nil {
		return nil, err
	}
	var err error
	p.files, err = parseDiff(diff)
	return p, err
}

// Applies reports why the plant does not fit the tree at root any more.
func (p *Plant) Applies(root string) error {
	for name, hunks := range p.files {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err == nil {
			_, err = apply(string(text), hunks)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Kill plants the bug in the tree at root and runs its test. It returns nil if
// the test failed, as it should.
func (p *Plant) Kill(ctx context.Context, root string) error {
	dir, err := os.MkdirTemp("", "tintype-plant-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	overlay, err := p.write(root, dir)
	if err != nil {
		return err
	}
	binary, err := compile(ctx, root, dir, overlay, p.Package)
	if err != nil {
		return err
	}
	green, err := run(ctx, root, binary, p.Package, p.Test)
	if err == nil && green {
		err = fmt.Errorf("%s of %s stays green", p.Test, p.Package)
	}
	return err
}

// Green runs the tests of these plants on the tree as it is: a test that fails
// anyway notices nothing.
func Green(ctx context.Context, root string, plants []*Plant) error {
	dir, err := os.MkdirTemp("", "tintype-plant-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tests := map[string][]string{}
	for _, p := range plants {
		if !slices.Contains(tests[p.Package], p.Test) {
			tests[p.Package] = append(tests[p.Package], p.Test)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(tests)) {
		binary, err := compile(ctx, root, dir, "", pkg)
		if err != nil {
			return fmt.Errorf("%s: %w", pkg, err)
		}
		for _, test := range tests[pkg] {
			green, err := run(ctx, root, binary, pkg, test)
			if err == nil && !green {
				err = errors.New("it fails without any bug")
			}
			if err != nil {
				return fmt.Errorf("%s of %s: %w", test, pkg, err)
			}
		}
	}
	return nil
}

// write makes the changed copies, and the file that tells go of them.
func (p *Plant) write(root, dir string) (overlay string, err error) {
	replace := map[string]string{}
	for name, hunks := range p.files {
		path := filepath.Join(root, filepath.FromSlash(name))
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		changed, err := apply(string(text), hunks)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(changed), 0o644); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

// compile makes a package's tests a program.
func compile(ctx context.Context, root, dir, overlay, pkg string) (binary string, err error) {
	binary = filepath.Join(dir, "test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not compile: %w\n%s", err, out)
	}
	return binary, nil
}

// run runs the tests that match. It is an error when none came to a verdict.
func run(ctx context.Context, root, binary, pkg, test string) (green bool, err error) {
	// A little more than the test's own limit, which says where it hangs.
	ctx, cancel := context.WithTimeoutCause(ctx, testWithin+30*time.Second, errors.New("the test did not end"))
	defer cancel()
	at := filepath.Join(root, filepath.FromSlash(pkg))
	args := []string{"-test.v", "-test.count=1", "-test.failfast", "-test.run", test, "-test.timeout", testWithin.String()}
	rapid, err := usesRapid(at)
	if err != nil {
		return false, err
	}
	if rapid {
		args = append(args, "-rapid.nofailfile") // it would leave one in the tree
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = at
	// Where a needed program is missing the test is to fail loudly, not to skip.
	cmd.Env = append(os.Environ(), "CI=true")
	text, err := cmd.CombinedOutput()
	out := string(text)
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err == nil && strings.Contains(out, "--- PASS: ") && !strings.Contains(out, "--- SKIP: "):
		return true, nil
	case exited && (strings.Contains(out, "--- FAIL: ") || strings.Contains(out, "\npanic: ")):
		return false, nil
	}
	return false, fmt.Errorf("no verdict: %v\n%s", err, out[max(0, len(out)-4<<10):])
}

// usesRapid reports whether a package's tests know the flags of rapid.
func usesRapid(dir string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		if strings.Contains(string(text), `"pgregory.net/rapid"`) {
			return true, nil
		}
	}
	return false, nil
}
