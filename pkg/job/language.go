package job

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Languages are the language tags of an Accept-Language header, the most wanted
// first (RFC 9110 section 12.5.4). What is not wanted at all (q=0), what is not
// a tag, and "any language" are left out.
func Languages(header string) []string {
	type wanted struct {
		tag string
		q   float64
	}
	var list []wanted
	for part := range strings.SplitSeq(header, ",") {
		tag, params, _ := strings.Cut(part, ";")
		w := wanted{tag: strings.TrimSpace(tag), q: 1}
		if name, value, ok := strings.Cut(params, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				continue
			}
			w.q = q
		}
		if w.q > 0 && isLanguage(w.tag) {
			list = append(list, w)
		}
	}
	slices.SortStableFunc(list, func(a, b wanted) int { return cmp.Compare(b.q, a.q) })
	var tags []string
	for _, w := range list {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, w.tag) }) {
			tags = append(tags, w.tag)
		}
	}
	return tags
}

// isLanguage reports whether tag looks like one of BCP 47: a language of two or
// three letters and subtags of two to eight letters and digits.
func isLanguage(tag string) bool {
	for i, sub := range strings.Split(tag, "-") {
		if i == 0 && (len(sub) < 2 || len(sub) > 3) || len(sub) < 1 || len(sub) > 8 {
			return false
		}
		for _, c := range sub {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

// Locale is the language, script and region of a tag. The rest, which says
// how and not what, is left out: ICU refuses tags whose rest it does not know.
func Locale(tag string) string {
	subs := strings.Split(tag, "-")
	locale, rest := subs[0], subs[1:]
	if len(rest) > 0 && len(rest[0]) == 4 && !strings.ContainsAny(rest[0], "0123456789") {
		locale, rest = locale+"-"+rest[0], rest[1:]
	}
	if len(rest) == 0 {
		return locale
	}
	digits := strings.Trim(rest[0], "0123456789")
	if len(rest[0]) == 2 && digits == rest[0] || len(rest[0]) == 3 && digits == "" {
		locale += "-" + rest[0]
	}
	return locale
}
