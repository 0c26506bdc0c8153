package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
)

// render measures renders of the corpus, on this farm and on what one would use
// in its place.
type render struct {
	Subjects []string `default:"farm,bare,reuse" help:"Who renders: ${subjects}; or peers, or all."`
	Variant  []string `sep:"none" help:"One more subject: the bare driver with further flags of the browser; may be repeated." placeholder:"NAME=FLAG FLAG"`
	Clients  int      `default:"2" help:"Renders at a time. At 1 latency is what the subject adds on an idle machine."`
	Seats    int      `default:"2" help:"Browsers, or pages at a time, of each subject."`
	Rounds   int      `default:"3" help:"Turns of each subject, one after the other in a shuffled order."`
	N        int      `default:"56" help:"Renders of a turn, over all kinds of pages alike."`
	Pages    []string `help:"Kinds of pages; empty: all (${pages})." placeholder:"KIND"`
	Chromium string   `default:"/usr/lib/chromium/chromium-headless-shell" help:"The binary that all share."`
	Full     string   `default:"/usr/lib/chromium/chromium" help:"The full browser, which some peers use as they ship."`
	Cache    string   `help:"Folder that peers are installed into, with npm; empty: tintype-peers in the user's cache." placeholder:"DIR"`
	Node     string   `default:"node" help:"Node.js for the peers."`
	Seed     uint64   `default:"1" help:"Of the orders of pages and of subjects."`
	Pictures string   `help:"Folder for a picture of each page by each subject." placeholder:"DIR"`
}

// turn is what one subject did in one round.
type turn struct {
	rps    float64
	took   []time.Duration
	cpu    float64            // seconds a render
	by     map[string]float64 // the same by name of the process
	others float64            // cores that were busy with something else
	failed []string           // renders without a picture
}

// renderReport is one line of JSON.
type renderReport struct {
	At       string            `json:"at"`
	Clients  int               `json:"clients"`
	Rounds   int               `json:"rounds"`
	N        int               `json:"n"`
	Pages    []string          `json:"pages"`
	Subjects []renderedBy      `json:"subjects"`
	Skipped  map[string]string `json:"skipped,omitempty"` // subject → why
}

// renderedBy is one subject: medians over its rounds. Ratios are medians of the
// ratios within each round, against the first subject of the run.
type renderedBy struct {
	Name     string             `json:"name"`
	RPS      float64            `json:"renders_per_s"`
	Ratio    float64            `json:"renders_per_s_ratio"`
	Took     quantiles          `json:"took_ms"` // of all rounds, from the order to the picture
	P50Ratio float64            `json:"p50_ratio"`
	Added    float64            `json:"p50_less_first_ms"`
	CPU      float64            `json:"cpu_s_per_render"`
	CPURatio float64            `json:"cpu_ratio"`
	By       map[string]float64 `json:"cpu_s_by_process"`
	Peak     float64            `json:"peak_mib"` // in a turn of its own, before the first
	Others   float64            `json:"foreign_cores"`
	Wrong    []string           `json:"wrong,omitempty"`  // pictures that lack something
	Failed   []string           `json:"failed,omitempty"` // renders without a picture; their time counts
	Rounds   []round            `json:"rounds"`
}

type round struct {
	RPS    float64 `json:"renders_per_s"`
	P50    float64 `json:"p50_ms"`
	CPU    float64 `json:"cpu_s_per_render"`
	Others float64 `json:"foreign_cores"`
}

// Run takes turns and reports. It fails when a render of the farm failed: a
// peer's failures are what it shows.
func (c *render) Run(ctx context.Context) error {
	pages, err := c.pages()
	if err != nil {
		return err
	}
	site, stop, err := serveCorpus()
	if err != nil {
		return err
	}
	defer stop()
	out := renderReport{At: time.Now().UTC().Format(time.RFC3339), Clients: c.Clients, Rounds: c.Rounds, N: c.N, Skipped: map[string]string{}}
	for _, p := range pages {
		out.Pages = append(out.Pages, p.Name)
	}
	run := &contest{render: c, site: site, pages: pages, turns: map[string][]turn{}, peaks: map[string]int64{}, wrong: map[string][]string{}}
	makers, err := c.makers(ctx, out.Skipped)
	if err != nil {
		return err
	}
	for name, why := range out.Skipped {
		fmt.Fprintf(os.Stderr, "%s: left out: %s\n", name, why)
	}
	if len(makers) == 0 {
		return errors.New("there is nobody to measure")
	}
	r := rand.New(rand.NewPCG(c.Seed, 1))
	for n := range c.Rounds {
		order := r.Perm(len(makers))
		for _, i := range order {
			if err := run.turn(ctx, makers[i], n); err != nil {
				return fmt.Errorf("%s, round %d: %w", makers[i].name, n+1, err)
			}
		}
	}
	for _, m := range makers {
		out.Subjects = append(out.Subjects, run.sum(m.name, makers[0].name))
	}
	printTable(os.Stderr, out)
	if err := report(out); err != nil {
		return err
	}
	for _, s := range out.Subjects {
		if n := len(s.Failed); n > 0 && strings.HasPrefix(s.Name, "farm") {
			return fmt.Errorf("%s: %d renders failed", s.Name, n)
		}
	}
	return nil
}

func (c *render) pages() ([]corpus.Page, error) {
	all := corpus.Pages()
	if len(c.Pages) == 0 {
		return all, nil
	}
	var some []corpus.Page
	for _, name := range c.Pages {
		i := slices.IndexFunc(all, func(p corpus.Page) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--pages: there is no kind %q: there are %s", name, pageNames())
		}
		some = append(some, all[i])
	}
	return some, nil
}

func pageNames() string {
	var names []string
	for _, p := range corpus.Pages() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// serveCorpus serves the pages from this process, whose processor time is
// nobody's.
func serveCorpus() (site string, stop func(), err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: corpus.Handler(), ReadHeaderTimeout: 30 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(l) //nolint:errcheck // ends with Close
	}()
	return "http://" + l.Addr().String(), func() { s.Close(); <-ended }, nil
}

// A runner renders for a turn.
type runner interface {
	// render makes a picture of url and writes it to file if that is not empty.
	render(ctx context.Context, url, file string) error
	pid() int // all below it is charged to the subject
	stop() error
}

// contest is a run of several subjects.
type contest struct {
	*render
	site  string
	pages []corpus.Page
	turns map[string][]turn
	peaks map[string]int64 // bytes
	wrong map[string][]string
}

// turn starts a subject, warms it up with one picture of each page, which is
// looked at, and measures it.
func (t *contest) turn(ctx context.Context, m maker, n int) (err error) {
	s, err := m.start(ctx, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	dir, err := os.MkdirTemp("", "tintype-pictures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil { // peers are not root
		return err
	}
	for _, p := range t.pages {
		file := filepath.Join(dir, p.Name+".png")
		err := s.render(ctx, t.site+p.Path(), file)
		if err != nil { // each browser fails now and then; what fails twice is broken
			err = s.render(ctx, t.site+p.Path(), file)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if n == 0 {
			if err := t.look(m.name, p, file); err != nil {
				return err
			}
		}
	}
	var list []string
	r := rand.New(rand.NewPCG(t.Seed, uint64(n)))
	for i := range t.N {
		list = append(list, t.site+t.pages[i%len(t.pages)].Path())
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if n == 0 {
		on := weigh(s.pid())
		renderAll(ctx, s, list, t.Clients)
		t.peaks[m.name] = on.most()
	}
	got, err := measureTurn(ctx, s, list, t.Clients)
	t.turns[m.name] = append(t.turns[m.name], got)
	return err
}

// look says what a picture lacks.
func (t *contest) look(name string, p corpus.Page, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if err := p.Check(img, false); err != nil {
		t.wrong[name] = append(t.wrong[name], err.Error())
	}
	if t.Pictures == "" {
		return nil
	}
	if err := os.MkdirAll(t.Pictures, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.Pictures, strings.ReplaceAll(name, " ", "-")+"-"+p.Name+".png"), b, 0o644)
}

// measureTurn renders the list with so many clients.
func measureTurn(ctx context.Context, s runner, list []string, clients int) (turn, error) {
	m, err := startMeter(s.pid())
	if err != nil {
		return turn{}, err
	}
	began := time.Now()
	took, failed := renderAll(ctx, s, list, clients)
	wall := time.Since(began)
	use, err := m.stop()
	out := turn{took: took, failed: failed, others: use.others, by: map[string]float64{}}
	out.rps = float64(len(list)) / wall.Seconds()
	out.cpu = use.cpu.Seconds() / float64(len(list))
	for name, d := range use.by {
		out.by[name] = d.Seconds() / float64(len(list))
	}
	return out, err
}

// renderAll renders the list with so many clients and tells how long each
// render took, and what the failed ones were.
func renderAll(ctx context.Context, s runner, list []string, clients int) (took []time.Duration, failed []string) {
	todo := make(chan string, len(list))
	for _, url := range list {
		todo <- url
	}
	close(todo)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for url := range todo {
				start := time.Now()
				err := s.render(ctx, url, "")
				mu.Lock()
				took = append(took, time.Since(start))
				if err != nil {
					failed = append(failed, fmt.Sprintf("%s: %v", url, err))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took, failed
}

// sum makes the medians of one subject.
func (t *contest) sum(name, first string) renderedBy {
	mine, theirs := t.turns[name], t.turns[first]
	out := renderedBy{Name: name, Wrong: t.wrong[name]}
	for _, n := range mine {
		out.Failed = append(out.Failed, n.failed...)
	}
	var rps, ratio, p50, cpu, cpuRatio, others []float64
	var all []time.Duration
	var added []float64
	for i, n := range mine {
		f := theirs[i]
		q, fq := summarise(slices.Clone(n.took)), summarise(slices.Clone(f.took))
		rps, ratio = append(rps, n.rps), append(ratio, n.rps/f.rps)
		p50, added = append(p50, q.P50/fq.P50), append(added, q.P50-fq.P50)
		cpu, cpuRatio = append(cpu, n.cpu), append(cpuRatio, n.cpu/f.cpu)
		others = append(others, n.others)
		all = append(all, n.took...)
		out.Rounds = append(out.Rounds, round{RPS: n.rps, P50: q.P50, CPU: n.cpu, Others: n.others})
	}
	out.RPS, out.Ratio, out.Took = median(rps), median(ratio), summarise(all)
	out.P50Ratio, out.Added = median(p50), median(added)
	out.By = map[string]float64{}
	for _, n := range mine {
		for name, s := range n.by {
			out.By[name] += s / float64(len(mine))
		}
	}
	out.CPU, out.CPURatio, out.Peak, out.Others = median(cpu), median(cpuRatio), mib(t.peaks[name]), median(others)
	return out
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	if n := len(of); n%2 == 0 && n > 0 {
		return (of[n/2-1] + of[n/2]) / 2
	}
	return of[len(of)/2]
}

// printTable shows people what the line of JSON says.
func printTable(w *os.File, r renderReport) {
	fmt.Fprintf(w, "\n%-28s %9s %6s %8s %8s %6s %9s %6s %8s %8s\n", "", "renders/s", "ratio", "p50 ms", "p95 ms", "ratio", "cpu s", "ratio", "peak MiB", "foreign")
	for _, s := range r.Subjects {
		fmt.Fprintf(w, "%-28s %9.2f %6.2f %8.0f %8.0f %6.2f %9.3f %6.2f %8.0f %8.2f\n",
			s.Name, s.RPS, s.Ratio, s.Took.P50, s.Took.P95, s.P50Ratio, s.CPU, s.CPURatio, s.Peak, s.Others)
		if len(s.By) > 1 {
			fmt.Fprintf(w, "    of it")
			for _, name := range slices.Sorted(maps.Keys(s.By)) {
				fmt.Fprintf(w, " %s %.3f", name, s.By[name])
			}
			fmt.Fprintln(w)
		}
		for _, wrong := range slices.Concat(s.Wrong, s.Failed) {
			fmt.Fprintf(w, "    %s\n", wrong)
		}
	}
}
