package job

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxTemplate bounds the markup of a header or footer in bytes.
const maxTemplate = 8 << 10

// templateElements and templateAttributes are what the markup of a header or
// footer may be made of: what has a shape and loads nothing. The browser prints
// it as a document of its own; one that loads a style sheet makes the print fail,
// and scripts, frames and pictures from elsewhere would be left blank there.
var (
	templateElements = words("div span p br hr b strong i em u s small big sub sup mark abbr code pre center font " +
		"h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table caption colgroup col thead tbody tfoot tr th td " +
		"header footer section article address time style img")
	templateAttributes = words("class id style title lang dir align valign width height colspan rowspan span " +
		"border cellpadding cellspacing bgcolor color face size datetime alt src")
)

func words(list string) []string { return strings.Fields(list) }

// PrintTemplate checks the markup of a PDF's header or footer and gives it as
// the browser gets it: parsed and written anew, so that what was checked is what
// is printed. Its error names the element, or what of it, is not taken.
func PrintTemplate(markup string) (string, error) {
	if len(markup) > maxTemplate {
		return "", fmt.Errorf("is %d bytes long; at most %d are taken", len(markup), maxTemplate)
	}
	body := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(strings.NewReader(markup), body)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	var out strings.Builder
	for _, n := range nodes {
		if err := templateNode(n); err != nil {
			return "", err
		}
		if err := html.Render(&out, n); err != nil {
			return "", fmt.Errorf("cannot be written: %w", err)
		}
	}
	return out.String(), nil
}

// templateNode checks a node and all below it. Comments are taken out.
func templateNode(n *html.Node) error {
	switch n.Type {
	case html.TextNode:
		return nil
	case html.CommentNode:
		n.Data = "" // kept, since its siblings are being walked; it holds nothing
		return nil
	case html.ElementNode:
	default:
		return fmt.Errorf("holds something that is no element and no text")
	}
	if n.Namespace != "" || !slices.Contains(templateElements, n.Data) {
		return fmt.Errorf("has the element <%s>; text elements, <style>, <table> and <img> with a data: URL are taken", cleanName(n.Data))
	}
	for _, a := range n.Attr {
		if err := templateAttribute(n.Data, a); err != nil {
			return err
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if n.Data == "style" {
			if err := templateStyle("<style>", c.Data); err != nil {
				return err
			}
			continue
		}
		if err := templateNode(c); err != nil {
			return err
		}
	}
	return nil
}

func templateAttribute(element string, a html.Attribute) error {
	switch {
	case a.Namespace != "" || !slices.Contains(templateAttributes, a.Key) && !strings.HasPrefix(a.Key, "data-") && !strings.HasPrefix(a.Key, "aria-"):
		return fmt.Errorf("has the attribute %s at <%s>, which is not taken", cleanName(a.Key), element)
	case a.Key == "style":
		return templateStyle("the style of <"+element+">", a.Val)
	case a.Key == "src" && (element != "img" || !isDataImage(a.Val)):
		return fmt.Errorf("has a src at <%s>; an <img> with a data:image/… URL is taken, nothing that has to be loaded", element)
	}
	return nil
}

// templateStyle refuses what could load something. Escapes are refused as a
// whole: they can spell any of it.
func templateStyle(where, css string) error {
	low := strings.ToLower(css)
	for _, no := range []string{`\`, "@import", "@font-face", "@charset", "@namespace", "image-set(", "image(", "src(", "element(", "expression(", "<!--"} {
		if strings.Contains(low, no) {
			return fmt.Errorf("has %q in %s; nothing that loads, and no escapes, are taken there", no, where)
		}
	}
	for _, after := range strings.Split(low, "url(")[1:] {
		if !isDataImage(strings.TrimLeft(after, " \t\r\n\f\"'")) {
			return fmt.Errorf("has a url(…) in %s that is no data:image/… URL; nothing that has to be loaded is taken", where)
		}
	}
	return nil
}

func isDataImage(url string) bool {
	return strings.HasPrefix(strings.ToLower(url), "data:image/")
}

// cleanName makes a name out of a stranger's markup fit for a message.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 40)]
}
