package egress

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/net/publicsuffix"
)

//go:embed hosts.txt
var ownHosts string

// Lists are the hosts and URLs of advertising and tracking: our own short list
// and what the operator adds. They are read once and shared by all jobs.
type Lists struct {
	hosts  map[string]hostRule
	rules  ruleIndex
	except ruleIndex // what a list lets pass in spite of all
	// Rules and Skipped count the operator's lines that are obeyed, and those
	// that say something a proxy cannot do, such as hiding elements.
	Rules, Skipped int
}

// A hostRule is what is known of a host and all below it.
type hostRule struct {
	ads, trackers bool
	allowed       bool // a list lets it pass
}

// LoadLists reads our own list and the operator's files, each FILE or
// ads=FILE for block_ads, trackers=FILE for block_trackers. A file has a host, a
// line of a hosts file or a rule of Adblock Plus on each line. It reports every
// file that cannot be read.
func LoadLists(files []string) (*Lists, error) {
	l := &Lists{hosts: map[string]hostRule{}}
	if err := l.read(strings.NewReader(ownHosts), true); err != nil {
		return nil, err
	}
	l.Rules = 0
	var errs []error
	for _, entry := range files {
		kind, name, ok := strings.Cut(entry, "=")
		if !ok {
			kind, name = "ads", entry
		}
		if kind != "ads" && kind != "trackers" {
			errs = append(errs, fmt.Errorf("blocklist %q: want FILE, ads=FILE or trackers=FILE", entry))
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("blocklist: %w", err))
			continue
		}
		if err := l.read(f, kind == "ads"); err != nil {
			errs = append(errs, fmt.Errorf("blocklist %s: %w", name, err))
		}
		f.Close()
	}
	return l, errors.Join(errs...)
}

// read takes the lines of one list. A line "[trackers]" turns to the other kind;
// our own list has both.
func (l *Lists) read(r io.Reader, ads bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '!' || line[0] == '#' && !strings.HasPrefix(line, "##"):
			continue
		case line == "[trackers]":
			ads = false
			continue
		case line[0] == '[': // [Adblock Plus 2.0]
			continue
		}
		if l.add(line, ads) {
			l.Rules++
		} else {
			l.Skipped++
		}
	}
	return lines.Err()
}

// add obeys one line, or reports that it cannot be.
func (l *Lists) add(line string, ads bool) bool {
	if fields := strings.Fields(line); len(fields) > 1 { // 0.0.0.0 host # comment
		if fields[0] != "0.0.0.0" && fields[0] != "127.0.0.1" && fields[0] != "::" && fields[0] != "::1" {
			return false
		}
		line = fields[1]
	}
	if validName(strings.ToLower(line)) && strings.Contains(line, ".") {
		l.addHost(strings.ToLower(line), hostRule{ads: ads, trackers: !ads})
		return true
	}
	if strings.Contains(line, "##") || strings.Contains(line, "#@#") || strings.Contains(line, "#?#") || strings.Contains(line, "#$#") {
		return false // elements of a page
	}
	r, ok := parseFilter(line)
	if !ok {
		return false
	}
	r.ads = ads
	switch host, isHost := r.host(); {
	case isHost && r.except:
		l.addHost(host, hostRule{allowed: true})
	case isHost:
		l.addHost(host, hostRule{ads: ads, trackers: !ads})
	case r.except:
		l.except.add(r)
	default:
		l.rules.add(r)
	}
	return true
}

func (l *Lists) addHost(host string, r hostRule) {
	old := l.hosts[host]
	l.hosts[host] = hostRule{ads: old.ads || r.ads, trackers: old.trackers || r.trackers, allowed: old.allowed || r.allowed}
}

// host judges a host by itself and by the names above it. A rule that a spared
// host is under does not count: nobody's own page is a foreign one.
func (l *Lists) host(host string, ads, trackers bool, spared []string) (why Reason) {
	if l == nil {
		return ""
	}
	for name := canonicalHost(host); name != ""; {
		r := l.hosts[name]
		switch {
		case r.allowed:
			return ""
		case why != "":
		case (ads && r.ads || trackers && r.trackers) && !underAny(spared, name):
			if why = BlockedTracker; ads && r.ads {
				why = BlockedAd
			}
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return why
}

func underAny(hosts []string, name string) bool {
	for _, h := range hosts {
		if h == name || strings.HasSuffix(h, "."+name) {
			return true
		}
	}
	return false
}

func (l *Lists) hasURLRules() bool { return l != nil && l.rules.size > 0 }

// A ListedRequest is what rules for URLs look at.
type ListedRequest struct {
	URL  string
	Host string // of it
	Type string // as Adblock Plus names them: script, image, xmlhttprequest, …
	Page string // host of the page that asks
}

// url judges by the rules that say more than a host.
func (l *Lists) url(r ListedRequest, ads, trackers bool) Reason {
	if !l.hasURLRules() {
		return ""
	}
	foreign := site(r.Host) != site(r.Page)
	hit := l.rules.find(r, foreign, func(f *filter) bool { return ads && f.ads || trackers && !f.ads })
	if hit == nil || l.except.find(r, foreign, func(*filter) bool { return true }) != nil {
		return ""
	}
	if hit.ads {
		return BlockedAd
	}
	return BlockedTracker
}

// site is the name under which a host's owner registered it.
func site(host string) string {
	host = canonicalHost(host)
	if s, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return s
	}
	return host
}
