package job

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestStatesDoc keeps docs/states.md equal to the code: its edges and its
// failure codes are the ones here, no more and no fewer.
func TestStatesDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for from, tos := range Edges {
		for _, to := range tos {
			want = append(want, string(from)+" → "+string(to))
		}
	}
	got := regexp.MustCompile(`(?m)^\| (\w+ → \w+) \|`).FindAllStringSubmatch(string(doc), -1)
	compare(t, "edges", want, got)

	want = nil
	for code, retryable := range Codes {
		word := "no"
		if retryable {
			word = "yes"
		}
		want = append(want, "`"+string(code)+"` | "+word)
	}
	got = regexp.MustCompile("(?m)^\\| (`\\w+` \\| (?:yes|no)) \\|").FindAllStringSubmatch(string(doc), -1)
	compare(t, "failure codes", want, got)
}

func compare(t *testing.T, what string, want []string, matches [][]string) {
	t.Helper()
	var got []string
	for _, m := range matches {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s in docs/states.md:\n%s\nin the code:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestStates(t *testing.T) {
	for s, tos := range Edges {
		if s.Terminal() {
			t.Errorf("%s is an end and has edges", s)
		}
		for _, to := range tos {
			if _, more := Edges[to]; !more && !to.Terminal() {
				t.Errorf("%s leads to %s, which leads nowhere", s, to)
			}
		}
	}
}

func TestCleanBoundsEvidence(t *testing.T) {
	e := &Evidence{Title: strings.Repeat("ä", 5000) + "\x00\xff", FinalURL: "http://e/\x00"}
	for range 1000 {
		e.ConsoleErrors = append(e.ConsoleErrors, strings.Repeat("\u2028<", 3000))
		e.FailedResources = append(e.FailedResources, Resource{URL: strings.Repeat("x", 9000), Reason: "\xf0\x28"})
	}
	e.Clean()
	b, err := json.Marshal(e)
	if err != nil || len(b) > maxEvidenceBytes {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if !utf8.ValidString(e.Title) || strings.Contains(e.Title+e.FinalURL, "\x00") || len(e.Title) > maxEvidenceText {
		t.Errorf("title of %d bytes: %.20q", len(e.Title), e.Title)
	}
	(*Evidence)(nil).Clean() // an attempt may have seen nothing
}

func FuzzClean(f *testing.F) {
	f.Add("title", "text")
	f.Fuzz(func(t *testing.T, title, text string) {
		e := &Evidence{Title: title, FinalURL: text, ConsoleErrors: slices.Repeat([]string{text}, 60), Redirects: slices.Repeat([]string{title}, 60)}
		e.Clean()
		b, err := json.Marshal(e)
		if err != nil || len(b) > maxEvidenceBytes+2*6*maxEvidenceText {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if strings.ContainsRune(string(b), 0) || strings.Contains(string(b), `\u0000`) {
			t.Fatal("U+0000 survived")
		}
	})
}

// TestPageIsBounded: what a page says of itself fills no ledger.
func TestPageIsBounded(t *testing.T) {
	long := strings.Repeat("é\x00", 3000)
	p := &Page{Title: long, Description: long, Author: long, Language: long, Canonical: long, Icon: long, OpenGraph: map[string]string{}, Twitter: map[string]string{}}
	for i := range 100 {
		p.OpenGraph[fmt.Sprint(i, long)], p.Twitter[fmt.Sprint(i, long)] = long, long
	}
	e := &Evidence{Page: p, Title: long, FinalURL: long}
	e.Clean()
	if e.size() > maxEvidenceBytes || len(p.Title) > maxPageText || !utf8.ValidString(p.Title) || p.OpenGraph == nil {
		t.Errorf("%d bytes, a title of %d", e.size(), len(p.Title))
	}
	short := &Evidence{Page: &Page{OpenGraph: map[string]string{"title": "x"}}}
	short.Clean()
	if short.Page.OpenGraph["title"] != "x" || short.Page.Twitter == nil {
		t.Errorf("%+v", short.Page)
	}
}
