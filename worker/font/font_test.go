package font

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/needtest"
)

func TestParse(t *testing.T) {
	c, err := parse("20-7e a0 100-17f\n\n61-7a 400-40f\n20-7e a0 100-17f\n1f600-1f64f\n")
	if err != nil {
		t.Fatal(err)
	}
	for r, want := range map[rune]bool{
		0x1f: false, 0x20: true, 'a': true, 0x7e: true, 0x7f: false, 0xa0: true, 0xa1: false, 0xff: false, 0x100: true, 0x17f: true, 0x180: false,
		0x400: true, 0x40f: true, 0x410: false, 0x1f5ff: false, '😀': true, 0x1f64f: true, 0x1f650: false, utf8.MaxRune: false,
	} {
		if c.Has(r) != want {
			t.Errorf("%U: %t", r, !want)
		}
	}
	if empty, err := parse(""); err != nil || empty.Has('a') || len(empty.Lacking()) != len(Scripts) {
		t.Errorf("no font: %v", err)
	}
	for _, bad := range []string{"20-zz", "7e-20", "-", "ffffffffff", "20-"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestClass(t *testing.T) {
	var none *Coverage
	if got := none.Class(); got != `\u{0}-\u{ff}` {
		t.Errorf("without fonts: %s", got)
	}
	// Between them are combining marks (0300–036F), and a gap with letters.
	c, err := parse("100-2ff 370-37f 4e00-9fff 3400")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Class(), `\u{0}-\u{37f}\u{3400}-\u{3400}\u{4e00}-\u{9fff}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c = &Coverage{}
	for i := range rune(200) {
		c.ranges = append(c.ranges, span{0x4000 + 4*i, 0x4001 + 4*i})
	}
	c.ranges = append(c.ranges, span{0x20000, 0x2a6df})
	got := c.Class()
	if n := strings.Count(got, "-"); n != mostRanges || !strings.Contains(got, `\u{20000}-\u{2a6df}`) || !strings.HasPrefix(got, `\u{0}-\u{ff}`) {
		t.Errorf("%d ranges: %s", n, got)
	}
}

// What the class of this machine's fonts takes for known, some font has.
func TestClassIsKnown(t *testing.T) {
	c := machine(t)
	class := regexp.MustCompile(`\\u\{([0-9a-f]+)\}-\\u\{([0-9a-f]+)\}`)
	if class.ReplaceAllString(c.Class(), "") != "" || len(c.Class()) > mostRanges*22 {
		t.Errorf("the class is %s", c.Class())
	}
	for _, m := range class.FindAllStringSubmatch(c.Class(), -1) {
		from, _ := strconv.ParseInt(m[1], 16, 32)
		to, _ := strconv.ParseInt(m[2], 16, 32)
		for r := rune(from); r <= rune(to); r++ {
			if !c.Has(r) && r > plain.to && !silent(r, r) {
				t.Errorf("%U is in the class and in no font", r)
			}
		}
	}
	for _, text := range []string{"Ж", "Ω", "中", "한", "😀"} {
		if r, _ := utf8.DecodeRuneInString(text); !c.Has(r) {
			t.Errorf("no font has %s", text)
		}
	}
	of := regexp.MustCompile("^[" + strings.NewReplacer(`\u`, `\x`).Replace(c.Class()) + "]*$")
	for _, text := range []string{"“It’s – 5 € • …”, → ✓", "Привет, Ωμέγα", "日本語、カタカナ！「漢字」", "한국어", "देवनागरी", "العربية", "ภาษาไทย", "😀🎉"} {
		if !of.MatchString(text) {
			t.Errorf("each page with %s is looked at for missing glyphs", text)
		}
	}
	if c.Has(0x10FFFD) || c.Has(0x0378) {
		t.Error("a font has what is no character")
	}
}

func TestLacking(t *testing.T) {
	c := machine(t)
	if lacking := c.Lacking(); len(lacking) > 0 {
		t.Errorf("this machine cannot show %v; %s", lacking, Install(lacking))
	}
	some := &Coverage{merge([]span{{0x20, 0x24f}, {0x2000, 0x20cf}, {0x1f000, 0x1ffff}, {0x2700, 0x27bf}})}
	var names []string
	lacking := some.Lacking()
	for _, s := range lacking {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "cjk arabic devanagari" {
		t.Errorf("without them, %s", got)
	}
	if got := Install(lacking); got != "apt-get install -y --no-install-recommends fonts-noto-cjk fonts-noto-core" {
		t.Error(got)
	}
}

func machine(t *testing.T) *Coverage {
	t.Helper()
	needtest.Program(t, "fc-list", "fontconfig")
	c, err := Known()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzParse(f *testing.F) {
	f.Add("20-7e a0\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(text)
		if err != nil {
			return
		}
		for i, s := range c.ranges {
			if s.to < s.from || i > 0 && s.from <= c.ranges[i-1].to+1 {
				t.Fatalf("%v", c.ranges)
			}
		}
		c.Class()
	})
}
