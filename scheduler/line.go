package scheduler

import (
	"iter"
	"slices"
	"sort"
)

// chunkMost is how many jobs a chunk of a line holds. Counting the jobs before
// one of them adds up the chunks before its own: 40 of them in a line of ten
// thousand, and no job is looked at but in two binary searches.
const chunkMost = 256

// line is jobs that wait, in the order of a number that each of them has and
// keeps while it is there. Mostly they come at its end and leave at its front,
// but any may leave, and one that comes back takes its old place.
type line struct {
	key    func(*entry) uint64
	chunks [][]*entry // none is empty
	n      int
}

// byTurn is the order of a tier's queue, byOrder that of acceptance.
func byTurn(e *entry) uint64  { return e.turn }
func byOrder(e *entry) uint64 { return e.order }

// add lets e wait.
func (l *line) add(e *entry) {
	l.n++
	last := len(l.chunks) - 1
	if last < 0 || l.key(l.end(last)) < l.key(e) {
		if last < 0 || len(l.chunks[last]) >= chunkMost {
			l.chunks, last = append(l.chunks, nil), last+1
		}
		l.chunks[last] = append(l.chunks[last], e)
		return
	}
	c, i := l.search(l.less(e))
	l.chunks[c] = slices.Insert(l.chunks[c], i, e)
	if full := l.chunks[c]; len(full) > chunkMost {
		half := len(full) / 2
		l.chunks = slices.Insert(l.chunks, c+1, slices.Clone(full[half:]))
		clear(full[half:])
		l.chunks[c] = full[:half]
	}
}

// remove takes out e, which waits here.
func (l *line) remove(e *entry) {
	l.n--
	c, i := l.search(l.less(e))
	chunk := l.chunks[c]
	switch {
	case len(chunk) == 1 && c == 0:
		l.chunks[0] = nil
		l.chunks = l.chunks[1:]
	case len(chunk) == 1:
		l.chunks = slices.Delete(l.chunks, c, c+1)
	case i == 0:
		chunk[0] = nil
		l.chunks[c] = chunk[1:]
	default:
		l.chunks[c] = slices.Delete(chunk, i, i+1)
	}
}

// front is the job that goes first; nil when none waits.
func (l *line) front() *entry { return (&cursor{line: l}).job() }

// ahead is how many wait before e.
func (l *line) ahead(e *entry) int { return l.count(l.less(e)) }

// count is how many jobs match, of which there is none behind one that does
// not.
func (l *line) count(match func(*entry) bool) int {
	c, i := l.search(match)
	for _, chunk := range l.chunks[:c] {
		i += len(chunk)
	}
	return i
}

func (l *line) less(e *entry) func(*entry) bool {
	key := l.key(e)
	return func(other *entry) bool { return l.key(other) < key }
}

// search finds the first job that does not match.
func (l *line) search(match func(*entry) bool) (chunk, i int) {
	c := sort.Search(len(l.chunks), func(c int) bool { return !match(l.end(c)) })
	if c == len(l.chunks) {
		return c, 0
	}
	in := l.chunks[c]
	return c, sort.Search(len(in), func(i int) bool { return !match(in[i]) })
}

func (l *line) end(chunk int) *entry { return l.chunks[chunk][len(l.chunks[chunk])-1] }

// all are the jobs in order.
func (l *line) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, chunk := range l.chunks {
			for _, e := range chunk {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// cursor is a place in a line that stays as it is.
type cursor struct {
	line     *line
	chunk, i int
}

// job is the one at the cursor; nil behind the last.
func (c *cursor) job() *entry {
	if c.chunk == len(c.line.chunks) {
		return nil
	}
	return c.line.chunks[c.chunk][c.i]
}

// step goes on to the next job.
func (c *cursor) step() {
	if c.i++; c.i == len(c.line.chunks[c.chunk]) {
		c.chunk, c.i = c.chunk+1, 0
	}
}
