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
	if _, isNumber := s.ScrollTop(); !isNumber {
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

// notSelector says what keeps text from being a list of CSS selectors; empty
// when nothing is seen to. It looks at brackets, quotes and the ends of each
// selector alone (CSS Syntax Level 3, 4.3 and Selectors Level 4, 4.1): what the
// names mean is the browser's to know, which learns new ones.
func notSelector(text string) string {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "(/") || strings.HasPrefix(text, "xpath=") {
		return "it looks like XPath, which is not offered"
	}
	var open []rune // brackets that wait for their end
	var quote rune
	empty := true   // nothing of the present selector of the list so far
	last := rune(0) // character that is no blank
	escaped := false
	for _, c := range text {
		switch {
		case escaped:
			escaped, empty, last = false, false, 'x'
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
