package job

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// checkActs checks what is done to the page and waited for, and brings what
// says nothing new to its zero value.
func (s *Spec) checkActs() (errs []*FieldError) {
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	if s.Media == "print" && s.Format == PDF || s.Media == "screen" && s.Format.Picture() {
		s.Media = ""
	}
	selector := func(field, text string) {
		if why := notSelector(text); text != "" && why != "" {
			bad(field, "is not a CSS selector: %s", why)
		}
	}
	selector("selector", s.Selector)
	selector("hide_selector", s.HideSelector)
	for i, text := range s.Click {
		selector("click/"+strconv.Itoa(i), text)
	}
	selector("hover", s.Hover)
	if why := wrongPlace(s.ScrollTo); why != "" {
		bad("scroll_to", "%s", why)
	} else if _, isNumber := s.ScrollTop(); !isNumber {
		selector("scroll_to", s.ScrollTo)
	}
	selector("wait_for", s.WaitFor)
	selector("wait_to_leave", s.WaitToLeave)
	selector("fail_if_selector_present", s.FailIfSelectorPresent)
	return errs
}

// scrollNumber is a scroll_to that is not a selector.
var scrollNumber = regexp.MustCompile(`^[0-9]{1,7}(\.[0-9]{1,3})?(px)?$`)

// ScrollTop is the CSS pixels of a scroll_to that names no element.
func (s *Spec) ScrollTop() (float64, bool) {
	if !scrollNumber.MatchString(s.ScrollTo) {
		return 0, false
	}
	top, err := strconv.ParseFloat(strings.TrimSuffix(s.ScrollTo, "px"), 64)
	return top, err == nil
}

// numeric is what is meant as a number: no selector begins like that.
var numeric = regexp.MustCompile(`^\s*[+-]?\.?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?\s*([a-zA-Z%]*)`)

// wrongPlace says what keeps a scroll_to that is meant as a number from being
// one; empty if nothing does, or if it is meant as a selector.
func wrongPlace(text string) string {
	m := numeric.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	const way = "CSS pixels from the top, a number from 0 to %d such as 1200"
	s := Spec{SpecState: SpecState{ScrollTo: text}}
	switch top, ok := s.ScrollTop(); {
	case ok && top <= maxPlace:
		return ""
	case m[1] != "" && m[1] != "px":
		return fmt.Sprintf("has the unit %s; it is "+way+" without a unit, or a CSS selector", shown(m[1]), maxPlace)
	}
	return fmt.Sprintf("must be "+way+", or a CSS selector, not %s", maxPlace, shown(text))
}

// notSelector says what keeps text from being a list of CSS selectors; empty
// when nothing is seen to. It looks at brackets, quotes and the ends of each
// selector alone (CSS Syntax Level 3, 4.3 and Selectors Level 4, 4.1): what the
// names mean is the browser's to know, which learns new ones.
func notSelector(text string) string {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "(/") || strings.HasPrefix(text, "xpath=") {
		return "it looks like XPath, which is not offered"
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	var open []rune // brackets that wait for their end
	var quote rune
	empty := true            // nothing of the present selector of the list so far
	last := rune(0)          // character that is no blank
	escaped, hex := false, 0 // a backslash was before; hex digits of an escape that may follow, and 1 for its blank
	var before [2]rune       // the two characters before, escapes as x
	for _, c := range text {
		if hex > 1 && isHex(c) {
			hex--
			continue
		}
		if hex > 0 && strings.ContainsRune(" \t\n\r\f", c) {
			hex = 0
			continue
		}
		hex = 0
		was := before
		before = [2]rune{was[1], c}
		switch {
		case escaped:
			if escaped, empty, last = false, false, 'x'; isHex(c) {
				hex = 6
			}
			before[1] = 'x'
			continue
		case c == '\\':
			escaped = true
			continue
		case quote != 0:
			switch c {
			case quote:
				quote = 0
			case '\n':
				return "a quoted text has no end"
			}
			continue
		}
		if c >= '0' && c <= '9' && len(open) == 0 {
			if why := misplacedDigit(was); why != "" {
				return why
			}
		}
		switch c {
		case '"', '\'':
			if len(open) == 0 {
				return "a quote stands outside of brackets"
			}
			quote = c
		case '(', '[':
			open = append(open, map[rune]rune{'(': ')', '[': ']'}[c])
		case ')', ']':
			if len(open) == 0 || open[len(open)-1] != c {
				return fmt.Sprintf("%q closes what was not opened", c)
			}
			open = open[:len(open)-1]
		case '{', '}', ';', '@', '!', '<', '%', '`', '=', '$', '^', '?', '/':
			if len(open) == 0 {
				return fmt.Sprintf("%q has no place there", c)
			}
		case ',':
			if len(open) == 0 {
				if empty || strings.ContainsRune(">+~", last) {
					return "a selector of the list is missing"
				}
				empty, last = true, 0
				continue
			}
		}
		if !strings.ContainsRune(" \t\n\r\f", c) {
			if len(open) == 0 && empty && strings.ContainsRune(">+~", c) {
				return fmt.Sprintf("it begins with %q", c)
			}
			empty, last = false, c
		}
	}
	switch {
	case escaped:
		return "it ends in a backslash"
	case quote != 0:
		return "a quoted text has no end"
	case len(open) > 0:
		return fmt.Sprintf("%q is missing at its end", open[len(open)-1])
	case empty:
		return "a selector is missing"
	case strings.ContainsRune(">+~", last):
		return fmt.Sprintf("it ends in %q", last)
	case last == '.' || last == '#' || last == ':':
		return fmt.Sprintf("no name follows %q at its end", last)
	}
	return ""
}

// misplacedDigit says why no digit stands behind these two characters, outside
// of brackets; empty where one may (CSS Syntax Level 3, 4.3.9).
func misplacedDigit(before [2]rune) string {
	at := before[1]
	if at == '-' {
		at = before[0]
	}
	switch {
	case at == '#':
		return `a name does not begin with a digit; write [id="1a"] for #1a`
	case at == '.':
		return `a name does not begin with a digit; write [class~="1a"] for .1a`
	case at == 0 || strings.ContainsRune(" \t\n\r\f,>+~:", at):
		return "a name does not begin with a digit"
	}
	return ""
}

func isHex(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
