package capture

import "strings"

// A pattern names URLs: "*" in it stands for anything, and the rest must be
// the whole URL, in either case of letters. One without "*" and "/" is a host,
// and means it and all below it.
type pattern struct {
	parts []string
	host  string
}

func parsePattern(text string) pattern {
	text = strings.ToLower(strings.TrimSpace(text))
	if !strings.ContainsAny(text, "*/") {
		return pattern{host: text}
	}
	return pattern{parts: strings.Split(text, "*")}
}

func parsePatterns(texts []string) (all []pattern) {
	for _, t := range texts {
		all = append(all, parsePattern(t))
	}
	return all
}

func (p pattern) matches(url string) bool {
	url = strings.ToLower(url)
	if p.parts == nil {
		host := hostOf(url) // with its port
		name := host[:max(strings.LastIndexByte(host, ':'), 0)]
		return name == p.host || host == p.host || strings.HasSuffix(name, "."+p.host) || strings.HasSuffix(host, "."+p.host)
	}
	rest, ok := strings.CutPrefix(url, p.parts[0])
	if !ok {
		return false
	}
	last := len(p.parts) - 1
	if last == 0 {
		return rest == ""
	}
	for _, part := range p.parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, p.parts[last])
}

// anyMatches reports whether one of the patterns names the URL.
func anyMatches(all []pattern, url string) bool {
	for _, p := range all {
		if p.matches(url) {
			return true
		}
	}
	return false
}
