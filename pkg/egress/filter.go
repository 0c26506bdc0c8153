package egress

import (
	"slices"
	"strings"
)

// A filter is one rule of a list in the syntax of Adblock Plus: the subset
// that names URLs, by pattern, type, and whose page asks.
type filter struct {
	parts    []string // what must come in this order; "^" stands in them for a separator
	domain   bool     // || : begins at a label of the host
	start    bool     // | : begins at the URL's start
	end      bool     // | : ends at the URL's end
	except   bool     // @@
	ads      bool     // of a list for block_ads
	types    []string // nil: all
	notTypes []string
	party    int // 1: foreign requests alone, -1: the page's own alone
	pages    []string
	notPages []string
}

// filterTypes are the types that rules may name.
var filterTypes = []string{"script", "image", "stylesheet", "font", "media", "xmlhttprequest", "subdocument", "websocket", "ping", "object", "other"}

// parseFilter reads one rule; false for what is not understood in full, since a
// rule without its condition would block too much.
func parseFilter(line string) (*filter, bool) {
	f := &filter{}
	line, f.except = strings.CutPrefix(line, "@@")
	if strings.HasPrefix(line, "/") && strings.HasSuffix(line, "/") && len(line) > 1 {
		return nil, false // a regular expression
	}
	if dollar := strings.LastIndexByte(line, '$'); dollar >= 0 {
		if !f.options(line[dollar+1:]) {
			return nil, false
		}
		line = line[:dollar]
	}
	if line, f.domain = strings.CutPrefix(line, "||"); !f.domain {
		line, f.start = strings.CutPrefix(line, "|")
	}
	line, f.end = strings.CutSuffix(line, "|")
	line = strings.ToLower(line)
	for _, c := range line {
		if c <= ' ' || c > '~' {
			return nil, false
		}
	}
	f.parts = strings.Split(line, "*")
	return f, strings.Trim(line, "*^") != ""
}

// options reads what stands behind the dollar.
func (f *filter) options(text string) bool {
	for opt := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.ToLower(opt)), "=")
		plain, not := strings.CutPrefix(name, "~")
		switch {
		case plain == "third-party" || plain == "3p":
			if f.party = 1; not {
				f.party = -1
			}
		case plain == "first-party" || plain == "1p":
			if f.party = -1; not {
				f.party = 1
			}
		case plain == "match-case":
		case name == "domain":
			for d := range strings.SplitSeq(value, "|") {
				if d, not := strings.CutPrefix(d, "~"); not {
					f.notPages = append(f.notPages, d)
				} else {
					f.pages = append(f.pages, d)
				}
			}
		case slices.Contains(filterTypes, plain) && not:
			f.notTypes = append(f.notTypes, plain)
		case slices.Contains(filterTypes, plain):
			f.types = append(f.types, plain)
		default:
			return false
		}
	}
	return true
}

// host is the name of a rule ||name^ that holds for every request to it from
// elsewhere.
func (f *filter) host() (string, bool) {
	if !f.domain || f.end || len(f.parts) != 1 || f.types != nil || f.notTypes != nil || f.pages != nil || f.notPages != nil || f.party < 0 {
		return "", false
	}
	name, ok := strings.CutSuffix(f.parts[0], "^")
	return name, ok && validName(name)
}

// matches holds a request, its URL in lower case, against the rule.
func (f *filter) matches(r ListedRequest, url string, foreign bool) bool {
	switch {
	case f.types != nil && !slices.Contains(f.types, r.Type), slices.Contains(f.notTypes, r.Type):
		return false
	case f.party > 0 && !foreign, f.party < 0 && foreign:
		return false
	case len(f.pages) > 0 && !underOne(r.Page, f.pages), underOne(r.Page, f.notPages):
		return false
	}
	switch {
	case f.start:
		return f.match(url, 0, false)
	case f.domain:
		_, rest, ok := strings.Cut(url, "://")
		if !ok {
			return false
		}
		at := len(url) - len(rest)
		for hostEnd := at + strings.IndexAny(rest+"/", "/?#:"); at < hostEnd; {
			if f.match(url, at, false) {
				return true
			}
			dot := strings.IndexByte(url[at:hostEnd], '.')
			if dot < 0 {
				return false
			}
			at += dot + 1
		}
		return false
	}
	return f.match(url, 0, true)
}

func underOne(host string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return host == n || strings.HasSuffix(host, "."+n) })
}

// match matches the parts from that place on; the first stands right there,
// unless it may come later. What is between two parts is anything, so the
// leftmost place for each is as good as any, and nothing is tried again: a URL
// is a stranger's, and its length may cost no more than once. The last of a
// rule that ends with the URL must stand there.
func (f *filter) match(url string, at int, later bool) bool {
	for i, part := range f.parts {
		last := f.end && i == len(f.parts)-1
		found := -1
		for p := at; p <= len(url); p++ {
			n, ok := matchPart(part, url[p:])
			if ok && (!last || p+n == len(url)) {
				found = p + n
				break
			}
			if i == 0 && !later {
				break
			}
		}
		if found < 0 {
			return false
		}
		at = found
	}
	return true
}

// matchPart matches part at the start of s and tells how long it is there. A
// "^" is one separator, or the end.
func matchPart(part, s string) (int, bool) {
	n := 0
	for i := range len(part) {
		switch {
		case n < len(s) && (part[i] == s[n] || part[i] == '^' && isSeparator(s[n])):
			n++
		case part[i] == '^' && n == len(s):
		default:
			return 0, false
		}
	}
	return n, true
}

func isSeparator(c byte) bool { return !isWord(c) && c != '-' && c != '.' && c != '_' && c != '%' }

func isWord(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// A ruleIndex finds the rules that may match a URL by a word that stands in
// both. Rules without such a word are always tried.
type ruleIndex struct {
	byWord map[string][]*filter
	rest   []*filter
	size   int
}

func (x *ruleIndex) add(f *filter) {
	if x.byWord == nil {
		x.byWord = map[string][]*filter{}
	}
	x.size++
	best := ""
	for _, w := range f.words() {
		if best == "" || len(x.byWord[w]) < len(x.byWord[best]) || len(x.byWord[w]) == len(x.byWord[best]) && len(w) > len(best) {
			best = w
		}
	}
	if best == "" {
		x.rest = append(x.rest, f)
		return
	}
	x.byWord[best] = append(x.byWord[best], f)
}

// words are the words of three letters and more that every URL that matches
// has as whole words: those with something on both sides that ends a word.
func (f *filter) words() (words []string) {
	for i, part := range f.parts {
		for start := 0; start < len(part); {
			if !isWord(part[start]) {
				start++
				continue
			}
			end := start
			for end < len(part) && isWord(part[end]) {
				end++
			}
			left := start > 0 || i == 0 && (f.domain || f.start)
			right := end < len(part) || i == len(f.parts)-1 && f.end
			if left && right && end-start >= 3 {
				words = append(words, part[start:end])
			}
			start = end
		}
	}
	return words
}

// maxJudged is as much of a URL as rules look at. A page can make one of
// megabytes, and each rule without a word of its own walks through it.
const maxJudged = 8 << 10

// find gives a rule that ok allows and the request matches; nil without one.
func (x *ruleIndex) find(r ListedRequest, foreign bool, ok func(*filter) bool) *filter {
	if x.size == 0 {
		return nil
	}
	url := strings.ToLower(r.URL[:min(len(r.URL), maxJudged)])
	r.Page = canonicalHost(r.Page)
	try := func(rules []*filter) *filter {
		for _, f := range rules {
			if ok(f) && f.matches(r, url, foreign) {
				return f
			}
		}
		return nil
	}
	tried := map[string]bool{} // words that a URL says again and again
	for start := 0; start < len(url); {
		end := start
		for end < len(url) && isWord(url[end]) {
			end++
		}
		if word := url[start:end]; len(word) >= 3 && len(x.byWord[word]) > 0 && !tried[word] {
			tried[word] = true
			if f := try(x.byWord[word]); f != nil {
				return f
			}
		}
		start = end + 1
	}
	return try(x.rest)
}
