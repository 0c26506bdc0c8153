package typo

import "testing"

func TestNearest(t *testing.T) {
	settings := []string{"TINTYPE_LISTEN", "TINTYPE_SEATS", "TINTYPE_SERVER"}
	keys := []string{"tier", "threads", "retention_days", "name"}
	for _, test := range []struct {
		name  string
		known []string
		want  string
	}{
		{"TINTYPE_LISTNE", settings, "TINTYPE_LISTEN"},
		{"TINTYPE_SEAT", settings, "TINTYPE_SEATS"},
		{"TINTYPE_COLOUR", settings, ""},
		{"teir", keys, "tier"},
		{"Tier", keys, "tier"},
		{"retentionDays", keys, "retention_days"},
		{"x", []string{"y"}, ""},
		{"", keys, ""},
		{"tire", nil, ""},
	} {
		if got := Nearest(test.name, test.known); got != test.want {
			t.Errorf("%q: %q, want %q", test.name, got, test.want)
		}
	}
}
