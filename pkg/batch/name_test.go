package batch

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFileNames(t *testing.T) {
	for custom, want := range map[string]string{
		"": "0000007.png", "home": "0000007-home.png", "../../etc/passwd": "0000007-.._.._etc_passwd.png", "Grüße\x00\n": "0000007-Grüße__.png",
		`C:\con|"x"`: "0000007-C__con__x_.png", strings.Repeat("ü", 300): "0000007-" + strings.Repeat("ü", 50) + ".png", "a\xffb": "0000007-a_b.png",
	} {
		if got := FileName(7, custom, "image/png"); got != want {
			t.Errorf("%q is %q, want %q", custom, got, want)
		}
	}
	for kind, want := range map[string]string{"image/jpeg": "0000001.jpg", "application/pdf": "0000001.pdf", "": "0000001.bin"} {
		if got := FileName(1, "", kind); got != want {
			t.Errorf("%q is %q, want %q", kind, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"", "..", "/etc/passwd", `a\b`, "con", "\x00", "\u202e", "日本語", strings.Repeat("x", 500), "a\r\nb", "\xff\xfe"} {
		f.Add(7, s)
	}
	f.Fuzz(func(t *testing.T, number int, customID string) {
		number &= MaxNumber
		name := FileName(number, customID, "application/pdf")
		if !utf8.ValidString(name) || len(name) > maxCustomName+20 || !strings.HasSuffix(name, ".pdf") || !strings.HasPrefix(name, fmt.Sprintf("%07d", number)) ||
			strings.ContainsAny(name, "/\\:*?\"<>|\x00\r\n\t") {
			t.Errorf("%q names %q", customID, name)
		}
	})
}
