package job

import (
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestPrintTemplate(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"Page <span class=pageNumber></span> of <span class=totalPages></span>": `Page <span class="pageNumber"></span> of <span class="totalPages"></span>`,
		`<html><head><style>p{color:red}</style></head><body><p>A`:              `<style>p{color:red}</style><p>A</p>`,
		`<p style="background:url(data:image/png;base64,AA==)">A</p>`:           `<p style="background:url(data:image/png;base64,AA==)">A</p>`,
		`<img src="data:image/png;base64,AA==" alt="x" width=9>`:                `<img src="data:image/png;base64,AA==" alt="x" width="9"/>`,
		`a<!-- <script> -->b`: `a<!---->b`,
		`1 < 2 &amp; 3`:       `1 &lt; 2 &amp; 3`,
	} {
		got, err := PrintTemplate(in)
		if err != nil || got != want {
			t.Errorf("%q became %q, %v", in, got, err)
		}
	}
}

func TestPrintTemplateRefusals(t *testing.T) {
	for in, says := range map[string]string{
		`<script>alert(1)</script>`:                             "<script>",
		`<b><SCRIPT src=//x></b>`:                               "<script>",
		`<link rel=stylesheet href=http://10.0.0.1/>`:           "<link>",
		`<iframe src=x></iframe>`:                               "<iframe>",
		`<object data=x></object>`:                              "<object>",
		`<svg><script>1</script></svg>`:                         "<svg>",
		`<math><mtext></math>`:                                  "<math>",
		`<template><script>1</script></template>`:               "<template>",
		`<a href="http://x/">x</a>`:                             "<a>",
		`<meta http-equiv=refresh content=0>`:                   "<meta>",
		`<base href=http://x/>`:                                 "<base>",
		`<noscript><img src=x></noscript>`:                      "<noscript>",
		`<x-y></x-y>`:                                           "<x-y>",
		`<img src=http://10.0.0.1/a.png>`:                       "src at <img>",
		`<img src=" data:image/png,x">`:                         "src at <img>",
		`<img srcset="http://x/ 1x">`:                           "srcset at <img>",
		`<span src="data:image/png,x">`:                         "src at <span>",
		`<p onclick=1>`:                                         "onclick at <p>",
		`<table background=http://x/>`:                          "background at <table>",
		`<p style="background:url(http://x/)">`:                 "url(…) in the style of <p>",
		`<p style="background:URL( 'http://x/' )">`:             "url(…) in the style of <p>",
		`<p style="background:u\72l(http://x/)">`:               `"\\" in the style of <p>`,
		`<p style="background:image-set('http://x/' 1x)">`:      `"image-set(" in the style of <p>`,
		`<style>@import "http://x/";</style>`:                   `"@import" in <style>`,
		`<style>@IMPORT url(http://x/);</style>`:                `"@import" in <style>`,
		`<style>@font-face{src:url(http://x/)}</style>`:         `"@font-face" in <style>`,
		`<style>p{background:url(//x/)}</style>`:                "url(…) in <style>",
		strings.Repeat("<div>", 1000):                           "cannot be read",
		strings.Repeat("x", 8193):                               "8193 bytes long",
		`<style></style><p style="width:expression(alert(1))">`: `"expression("`,
	} {
		if got, err := PrintTemplate(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %q, %v", in, got, err)
		}
	}
}

// FuzzPrintTemplate: what is let through is let through again as it is, and
// holds nothing that loads.
func FuzzPrintTemplate(f *testing.F) {
	for _, s := range []string{"<p>a", "<style>p{}</style>", "<table><tr><td>x", "<img src=data:image/png,x>", "<b><svg><style><img src=x>", "<table><style><!--</style><img src=x>", "<p title='</p><script>'>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		once, err := PrintTemplate(in)
		if err != nil || len(once) > maxTemplate {
			return
		}
		if _, err := PrintTemplate(once); err != nil {
			t.Errorf("%q became %q, which is refused: %v", in, once, err)
		}
		z := html.NewTokenizer(strings.NewReader(once))
		for z.Next() != html.ErrorToken {
			switch tok := z.Token(); tok.Data {
			case "script", "link", "iframe", "object", "embed", "svg", "math", "base", "meta":
				if tok.Type == html.StartTagToken || tok.Type == html.SelfClosingTagToken {
					t.Errorf("%q became %q", in, once)
				}
			}
		}
	})
}
