package font

import "strings"

// A Script is a way of writing that pages are expected to use.
type Script struct {
	Name    string // as a label: lower case
	Probe   string // characters that a font for it has
	Package string // of Debian, with such a font
}

// Scripts are those that a worker is expected to show.
var Scripts = []Script{
	{"latin", "AZaz09ÄßéñŁőžİ€–“”…", "fonts-dejavu-core"},
	{"cjk", "中文字体漢字語體日本語ひらがなカタカナ한국어、。「」", "fonts-noto-cjk"},
	{"arabic", "العربيةفارسیاردو٠١٢؟،", "fonts-noto-core"},
	{"devanagari", "देवनागरीहिन्दी०१२।", "fonts-noto-core"},
	{"emoji", "😀👍🏽🎉🚀❤🇪🇺🫠", "fonts-noto-color-emoji"},
}

// everyday are characters whose neighbours are on many pages.
var everyday = func() string {
	text := "Жжωάあアー漢한、。「（！０Ａابपא’–…•€™←→−≤✓✔■►★☆❤️☎①กเ"
	for _, s := range Scripts {
		text += s.Probe
	}
	return text
}()

// Lacking are the scripts of which a character is missing.
func (c *Coverage) Lacking() (list []Script) {
	for _, s := range Scripts {
		if strings.ContainsFunc(s.Probe, func(r rune) bool { return !c.Has(r) }) {
			list = append(list, s)
		}
	}
	return list
}

// Install is the one command that brings fonts for these scripts.
func Install(scripts []Script) string {
	command := "apt-get install -y --no-install-recommends"
	for _, s := range scripts {
		if !strings.Contains(command+" ", " "+s.Package+" ") {
			command += " " + s.Package
		}
	}
	return command
}
