package capture

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	render "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/tintype/tintype/pkg/job"
)

// source is the page's markup, where the job brings it itself.
func (a *attempt) source(ctx context.Context) (doc string, own bool, fail *job.Failure) {
	if a.spec.Markdown == "" {
		return a.spec.HTML, a.spec.HTML != "", nil
	}
	limit, cancel := context.WithTimeout(ctx, min(time.Until(a.loadEnd), markdownLimit))
	defer cancel()
	doc, err := fromMarkdown(limit, a.spec.Markdown)
	if err != nil {
		return "", true, job.Fail(job.PageTooLarge, job.StageNavigate, "the markdown is too intricate to be read in time: nest less, or send html")
	}
	return doc, true, nil
}

// markdownLimit is for reading Markdown, of which nested quotes and open
// brackets take time by their square.
const markdownLimit = 3 * time.Second

//go:embed markdown.css
var markdownStyle string

// errSlow is Markdown that took too long.
var errSlow = errors.New("markdown: it takes too long")

// fromMarkdown makes a page of Markdown: CommonMark with GitHub's tables, task
// lists, strikethrough and bare links. Its markup is the client's own, as html
// is, and stays as it is.
func fromMarkdown(ctx context.Context, source string) (string, error) {
	type page struct {
		doc string
		err error
	}
	made := make(chan page, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				made <- page{err: fmt.Errorf("%w: %v", errSlow, p)}
			}
		}()
		doc, err := convert(ctx, []byte(source))
		made <- page{doc, err}
	}()
	select {
	case p := <-made:
		return p.doc, p.err
	case <-ctx.Done(): // the reader notices at its next line or mark, and ends
		return "", errSlow
	}
}

func convert(ctx context.Context, source []byte) (string, error) {
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM),
		goldmark.WithParserOptions(parser.WithInlineParsers(util.Prioritized(patience{ctx}, 0))),
		goldmark.WithRendererOptions(render.WithUnsafe()),
	)
	root := md.Parser().Parse(&patientReader{Reader: text.NewReader(source), ctx: ctx},
		parser.WithContext(&patientContext{Context: parser.NewContext(), ctx: ctx}))
	var body bytes.Buffer
	if err := md.Renderer().Render(&body, source, root); err != nil {
		return "", fmt.Errorf("markdown: %w", err)
	}
	return fmt.Sprintf("<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>%s</title>\n<style>\n%s</style>\n<article>\n%s</article>\n",
		html.EscapeString(firstHeading(root, source)), markdownStyle, body.String()), nil
}

// firstHeading is the title of a document in Markdown.
func firstHeading(root ast.Node, source []byte) (title string) {
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		h, ok := n.(*ast.Heading)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		var b bytes.Buffer
		_ = ast.Walk(h, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // neither walk fails
			switch t := n.(type) {
			case *ast.Text:
				if entering {
					b.Write(t.Segment.Value(source))
				}
			case *ast.String:
				if entering {
					b.Write(t.Value)
				}
			}
			return ast.WalkContinue, nil
		})
		title = b.String()
		return ast.WalkStop, nil
	})
	return title
}

// A patientReader panics when its time is over: the parser has no other way to
// be stopped among blocks.
type patientReader struct {
	text.Reader
	ctx context.Context
}

func (r *patientReader) PeekLine() ([]byte, text.Segment) {
	if r.ctx.Err() != nil {
		panic(errSlow)
	}
	return r.Reader.PeekLine()
}

// A patientContext panics when its time is over: a paragraph of nothing but
// definitions of links is read in one go, whose time goes by the square.
type patientContext struct {
	parser.Context
	ctx context.Context
}

func (c *patientContext) AddReference(ref parser.Reference) {
	if c.ctx.Err() != nil {
		panic(errSlow)
	}
	c.Context.AddReference(ref)
}

// patience is a parser of inline marks that finds none, and panics when its
// time is over: the parser has no other way to be stopped within a block.
type patience struct{ ctx context.Context }

func (patience) Trigger() []byte { return []byte("[]!<*_`~") }

func (p patience) Parse(ast.Node, text.Reader, parser.Context) ast.Node {
	if p.ctx.Err() != nil {
		panic(errSlow)
	}
	return nil
}
