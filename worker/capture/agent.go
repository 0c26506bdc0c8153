package capture

import (
	"regexp"
	"strings"

	"github.com/go-rod/rod/lib/proto"
)

// impersonate makes the browser call itself agent, in the header, to scripts and
// in the client hints; an empty agent leaves its own name.
func impersonate(agent string, langs []string) proto.EmulationSetUserAgentOverride {
	return proto.EmulationSetUserAgentOverride{
		UserAgent: agent, AcceptLanguage: strings.Join(langs, ","),
		Platform: platformOf(agent), UserAgentMetadata: hintsOf(agent),
	}
}

// platformOf is what navigator.platform says in the browser of that name;
// empty where the name does not tell.
func platformOf(agent string) string {
	for _, p := range []struct{ in, platform string }{
		{"iPhone", "iPhone"},
		{"iPad", "iPad"},
		{"Android", "Linux armv81"},
		{"Windows", "Win32"},
		{"Macintosh", "MacIntel"},
		{"CrOS", "Linux x86_64"},
		{"X11; Linux", "Linux x86_64"},
	} {
		if strings.Contains(agent, p.in) {
			return p.platform
		}
	}
	return ""
}

var (
	chromeVersion = regexp.MustCompile(`\b(?:Headless)?(?:Chrome|Chromium)/(\d+)([\d.]*)`)
	androidModel  = regexp.MustCompile(`Android ([\d.]+)(?:; ([^;)]+))?`)
	macVersion    = regexp.MustCompile(`Mac OS X ([\d_.]+)`)
)

// hintsOf are the client hints that go with a user agent. Only browsers made
// of Chromium send any; for the rest it is nil, and none are sent.
func hintsOf(agent string) *proto.EmulationUserAgentMetadata {
	v := chromeVersion.FindStringSubmatch(agent)
	if v == nil {
		return nil
	}
	major, full := v[1], v[1]+v[2]
	brand := "Google Chrome"
	switch {
	case strings.Contains(agent, "HeadlessChrome/"):
		brand = "HeadlessChrome"
	case strings.Contains(agent, "Edg/"), strings.Contains(agent, "EdgA/"):
		brand = "Microsoft Edge"
	case strings.Contains(agent, "OPR/"):
		brand = "Opera"
	}
	m := &proto.EmulationUserAgentMetadata{Mobile: strings.Contains(agent, "Mobile"), Architecture: "x86", Bitness: "64", FullVersion: full}
	// A name that no browser has is part of the list, so that servers do not
	// count on its length.
	for _, b := range []string{"Chromium", brand} {
		m.Brands = append(m.Brands, &proto.EmulationUserAgentBrandVersion{Brand: b, Version: major})
		m.FullVersionList = append(m.FullVersionList, &proto.EmulationUserAgentBrandVersion{Brand: b, Version: full})
	}
	m.Brands = append(m.Brands, &proto.EmulationUserAgentBrandVersion{Brand: "Not:A-Brand", Version: "8"})
	m.FullVersionList = append(m.FullVersionList, &proto.EmulationUserAgentBrandVersion{Brand: "Not:A-Brand", Version: "8.0.0.0"})
	switch {
	case strings.Contains(agent, "Android"):
		m.Platform, m.Architecture, m.Bitness = "Android", "", ""
		if a := androidModel.FindStringSubmatch(agent); a != nil {
			m.PlatformVersion, m.Model = a[1], strings.TrimSpace(a[2])
		}
	case strings.Contains(agent, "Windows"):
		m.Platform, m.PlatformVersion = "Windows", "10.0.0"
	case strings.Contains(agent, "Macintosh"):
		m.Platform = "macOS"
		if a := macVersion.FindStringSubmatch(agent); a != nil {
			m.PlatformVersion = strings.ReplaceAll(a[1], "_", ".")
		}
	case strings.Contains(agent, "CrOS"):
		m.Platform = "Chrome OS"
	default:
		m.Platform = "Linux"
	}
	return m
}
