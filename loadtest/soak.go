package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
	"github.com/tintype/tintype/pkg/job"
)

// soak renders for a long time and looks for what grows. Every picture is
// looked at; of a hundred pages some are hostile, and end as they must.
type soak struct {
	Renders int    `default:"10000" help:"In all, over all runs of the state file."`
	Hostile int    `default:"5" help:"Of a hundred, so many are hostile."`
	Seats   int    `default:"2" help:"Browsers of the farm."`
	Every   int    `default:"250" help:"Renders between two looks at a farm that has come to rest."`
	State   string `help:"File that each look is added to. A run that was interrupted goes on behind the last of them." placeholder:"FILE"`
	Calm    int    `default:"2" help:"Looks at the start of a run that count as warm-up."`
	Seed    uint64 `help:"Of the order of the hostile pages; 0: that of their list. A state file goes on with its own."`
}

// look is what there was of a farm at rest.
type look struct {
	Run        string         `json:"run"`            // names one process
	Done       int            `json:"done"`           // renders since the first run
	Seed       uint64         `json:"seed,omitempty"` // of the order of the hostile pages
	At         string         `json:"at"`
	RSS        float64        `json:"rss_mib"` // of the farm's own process
	FDs        int            `json:"fds"`     // of that process
	Goroutines int            `json:"goroutines"`
	Processes  int            `json:"processes"` // below it, Postgres left out
	Zombies    int            `json:"zombies"`
	Folders    int            `json:"folders"`      // of browsers, and their locks
	Temporary  int            `json:"temporary"`    // files in the farm's temporary folder outside of these
	Shared     int            `json:"shared_files"` // in /dev/shm
	Ends       map[string]int `json:"ends"`         // since the look before: page or trap=end
}

// soakReport is one line of JSON.
type soakReport struct {
	Renders int            `json:"renders"`
	Hostile int            `json:"hostile"`
	Seed    uint64         `json:"seed"`
	Runs    int            `json:"runs"`
	Ends    map[string]int `json:"ends"` // traps by how they ended; pages are one
	First   look           `json:"first"`
	Last    look           `json:"last"`
	Wrong   []string       `json:"wrong,omitempty"`
	Grown   []string       `json:"grown,omitempty"`
}

// Run renders what is left of the whole and judges it.
func (c *soak) Run(ctx context.Context) error {
	looks, err := c.read()
	if err != nil {
		return err
	}
	done := 0
	if len(looks) > 0 {
		done, c.Seed = looks[len(looks)-1].Done, looks[0].Seed
		fmt.Fprintf(os.Stderr, "going on behind %d renders\n", done)
	}
	var wrong []string
	if done < c.Renders {
		more, bad, err := c.run(ctx, done)
		looks, wrong = append(looks, more...), bad
		if err != nil {
			return err
		}
	}
	out := soakReport{Seed: c.Seed, Ends: map[string]int{}, Wrong: wrong, Grown: grown(looks, c.Calm)}
	runs := map[string]bool{}
	for _, l := range looks {
		runs[l.Run] = true
		for what, n := range l.Ends {
			out.Ends[what] += n
			if name, _, trap := strings.Cut(what, "="); trap && name != "page" {
				out.Hostile += n
			}
		}
	}
	out.Runs = len(runs)
	if len(looks) > 0 {
		out.First, out.Last = looks[0], looks[len(looks)-1]
		out.Renders = out.Last.Done
	}
	if err := report(out); err != nil {
		return err
	}
	if n := len(out.Wrong) + len(out.Grown); n > 0 {
		return fmt.Errorf("%d things are wrong: %s", n, strings.Join(append(out.Wrong, out.Grown...), "; "))
	}
	return nil
}

func (c *soak) read() (looks []look, err error) {
	if c.State == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil, os.MkdirAll(filepath.Dir(c.State), 0o755)
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var l look
		if json.Unmarshal(line, &l) == nil { // the last one may have been cut off
			looks = append(looks, l)
		}
	}
	return looks, nil
}

// A soaking is one run on one farm.
type soaking struct {
	*soak
	farm *farmRunner
	site string
	name string
	tmp  string // of the farm

	mu    sync.Mutex
	ends  map[string]int // guarded by mu
	wrong []string       // guarded by mu
}

func (c *soak) run(ctx context.Context, done int) (looks []look, wrong []string, err error) {
	site, stop, err := serveCorpus()
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	// The farm's own temporary folder: what is left there, its browsers left.
	tmp, err := os.MkdirTemp("", "tintype-soak-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o1777); err != nil { // browsers and Postgres are not root
		return nil, nil, err
	}
	before := sharedFiles()
	farm, err := startChild(ctx, childOf{
		env: []string{"TMPDIR=" + tmp}, seats: c.Seats, real: true, args: []string{"--egress-allow", strings.TrimPrefix(site, "http://")},
		policy: "version: 1\nplans:\n- name: default\n  tier: 0\n  threads: seats\n  retention_days: 1\n",
	})
	if err != nil {
		return nil, nil, err
	}
	s := &soaking{soak: c, farm: &farmRunner{child: farm, client: &http.Client{}}, site: site, tmp: tmp, name: rand.Text()[:8], ends: map[string]int{}}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, s.farm.stop())
		}
	}()
	for done < c.Renders {
		from, to := done, min(done+c.Every, c.Renders)
		if err := s.stretch(ctx, from, to); err != nil {
			return looks, s.wrong, err
		}
		done = to
		l, err := s.look(ctx, done)
		if err != nil {
			return looks, s.wrong, err
		}
		looks = append(looks, l)
		if err := c.keep(l); err != nil {
			return looks, s.wrong, err
		}
		fmt.Fprintf(os.Stderr, "%d renders: %.0f MiB, %d descriptors, %d goroutines, %d processes\n", done, l.RSS, l.FDs, l.Goroutines, l.Processes)
	}
	stopped = true
	if err := s.farm.stop(); err != nil {
		return looks, s.wrong, err
	}
	left := s.temporary()
	shared := sharedFiles()
	if len(shared) > len(before) { // of other browsers on this machine some pass by
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
	for name := range sharedFiles() {
		if shared[name] && !before[name] {
			left = append(left, name)
		}
	}
	for _, name := range left {
		s.wrong = append(s.wrong, "left behind: "+name)
	}
	return looks, s.wrong, nil
}

func (c *soak) keep(l look) error {
	if c.State == "" {
		return nil
	}
	f, err := os.OpenFile(c.State, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(l), f.Close())
}

// stretch renders numbers from up to to, as many at a time as there are seats.
func (s *soaking) stretch(ctx context.Context, from, to int) error {
	todo := make(chan int, to-from)
	for i := from; i < to; i++ {
		todo <- i
	}
	close(todo)
	var all sync.WaitGroup
	for range s.Seats {
		all.Go(func() {
			for i := range todo {
				if ctx.Err() == nil {
					s.one(ctx, i)
				}
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

// one renders page number i of the whole, and checks how that ended.
func (s *soaking) one(ctx context.Context, i int) {
	pages, traps := corpus.Pages(), s.traps()
	hostile := s.Hostile > 0 && (i+1)*s.Hostile/100 > i*s.Hostile/100
	if !hostile {
		p := pages[i%len(pages)]
		picture, code, err := s.ask(ctx, p.Path(), map[string]any{"width": corpus.Width, "height": corpus.Height})
		if err == nil && code != "" {
			err = errors.New(code)
		}
		if err == nil {
			img, bad := png.Decode(bytes.NewReader(picture))
			if err = bad; err == nil {
				err = p.Check(img, false)
			}
		}
		s.note(ctx, i, "page", cmp.Or(code, "ok"), err)
		return
	}
	trap := traps[i*s.Hostile/100%len(traps)]
	options := maps.Clone(trap.Options)
	if options == nil {
		options = map[string]any{}
	}
	options["width"], options["height"] = corpus.TrapWidth, corpus.TrapHeight
	picture, code, err := s.ask(ctx, trap.Path(), options)
	// On a busy machine a page that holds its browser up may leave too little
	// time for the capture: with more it must end as it should.
	for more := 2; more <= 4 && err == nil && job.Code(code).Timeout() && !slices.Contains(trap.Ends, code); more *= 2 {
		s.note(ctx, i, trap.Name, "again", nil)
		again := maps.Clone(options)
		if ms, ok := options["timeout_ms"].(int); ok {
			again["timeout_ms"] = more * ms
		}
		picture, code, err = s.ask(ctx, trap.Path(), again)
	}
	if err == nil && !slices.Contains(trap.Ends, code) {
		err = fmt.Errorf("ended with %q", code)
	}
	if err == nil && code == "" && trap.Options["format"] == nil {
		img, bad := png.Decode(bytes.NewReader(picture))
		if err = bad; err == nil {
			err = corpus.CheckTrap(img)
		}
	}
	s.note(ctx, i, trap.Name, cmp.Or(code, "ok"), err)
}

// traps are the hostile pages in the order of the seed.
func (c *soak) traps() []corpus.Trap {
	traps := corpus.Traps()
	if c.Seed != 0 {
		order := mathrand.New(mathrand.NewPCG(c.Seed, 0))
		order.Shuffle(len(traps), func(i, j int) { traps[i], traps[j] = traps[j], traps[i] })
	}
	return traps
}

// note counts an end, and keeps what was wrong with the first few.
func (s *soaking) note(ctx context.Context, i int, what, end string, err error) {
	if ctx.Err() != nil {
		return // it was called off
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[what+"="+end]++
	if err != nil && len(s.wrong) < 50 {
		s.wrong = append(s.wrong, fmt.Sprintf("render %d, %s: %v", i, what, err))
	}
}

// ask renders a page and returns the artifact, or the code of its failure.
func (s *soaking) ask(ctx context.Context, path string, options map[string]any) (artifact []byte, code string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerWithin)
	defer cancel()
	options = maps.Clone(options)
	options["url"] = s.site + path
	route := "/v1/screenshot"
	if options["format"] == "pdf" {
		route = "/v1/pdf"
		delete(options, "format")
		delete(options, "width") // of pictures
		delete(options, "height")
	}
	body, err := json.Marshal(options)
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.farm.url+route, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Authorization", "Bearer "+s.farm.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.farm.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusOK {
		return answer, "", err
	}
	var p problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Code == "" {
		return nil, "", fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return nil, p.Code, nil
}

// look waits until the farm has come to rest, with a browser ready in each
// seat, and counts what there is of it.
func (s *soaking) look(ctx context.Context, done int) (look, error) {
	l := look{Run: s.name, Done: done, Seed: s.Seed, At: time.Now().UTC().Format(time.RFC3339)}
	pid := s.farm.pid()
	// It is at rest when the counts of two looks in a row are the same.
	var last [4]int
	for same := 0; same < 2; {
		select {
		case <-ctx.Done():
			return l, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
		l.Processes, l.Zombies = below(pid)
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return l, err
		}
		l.FDs = len(fds)
		if l.Goroutines, err = s.goroutines(ctx); err != nil {
			return l, err
		}
		folders, _ := filepath.Glob(filepath.Join(s.tmp, "tintype-*", "browser-*"))
		l.Folders = len(folders)
		if now := [4]int{l.Processes, l.Folders, l.Zombies}; now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	kb, err := residentOf(pid)
	if err != nil {
		return l, err
	}
	l.RSS = float64(kb) / 1024
	l.Temporary, l.Shared = len(s.temporary()), len(sharedFiles())
	s.mu.Lock()
	defer s.mu.Unlock()
	l.Ends, s.ends = s.ends, map[string]int{}
	return l, nil
}

// temporary are the files in the farm's temporary folder, outside of those of
// its browsers, by path.
func (s *soaking) temporary() (found []string) {
	filepath.WalkDir(s.tmp, func(path string, e os.DirEntry, err error) error { //nolint:errcheck // what cannot be read has just gone
		switch {
		case err != nil:
		case e.IsDir() && strings.HasPrefix(e.Name(), "browser-"):
			return filepath.SkipDir
		case !e.IsDir() && !strings.HasPrefix(e.Name(), "browser-") && e.Type()&os.ModeSocket == 0:
			found = append(found, path)
		}
		return nil
	})
	return found
}

func (s *soaking) goroutines(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.farm.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.farm.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			_, err = fmt.Sscan(v, &n)
		}
	}
	return n, err
}
