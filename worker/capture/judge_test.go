package capture

import "testing"

func TestWild(t *testing.T) {
	for _, tt := range []struct {
		pattern, url string
		want         bool
	}{
		{"http://a/x", "http://a/x", true},
		{"http://a/x", "http://a/xy", false},
		{"http://a/*", "http://a/", true},
		{"*", "", true},
		{"*.js", "http://a/x.js", true},
		{"*.js", "http://a/x.js?1", false},
		{"*/api/*/v1*", "http://a/api/b/v1", true},
		{"*/api/*/v1*", "http://a/api/v1", false},
		{"ab*ba", "aba", false},
		{"ab*ba", "abba", true},
		{"**", "x", true},
		{"a*b*c", "abbc", true},
	} {
		if got := wild(tt.pattern, tt.url); got != tt.want {
			t.Errorf("%s, %s: %t", tt.pattern, tt.url, got)
		}
	}
}
