package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// formOverhead is what a form may have beside its file, in bytes.
	formOverhead = 1 << 20
	// maxFormFields is how many fields one may have.
	maxFormFields = 50
	// maxUploadName is how long a name of a file may be, in characters.
	maxUploadName = 255
)

// A form is what came with a multipart body.
type form struct {
	fields url.Values
	file   bool   // there was one
	name   string // of the file
	media  string // of the file
}

// readForm reads a form as it comes. The file is given to take, before or after
// the fields.
func readForm(body io.Reader, boundary string, take func(f *form, file *arriving) error) (*form, error) {
	f := &form{fields: make(url.Values)}
	if boundary == "" {
		return nil, brokenForm(errors.New("no boundary"))
	}
	for r, n := multipart.NewReader(body, boundary), 0; ; n++ {
		part, err := r.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			if !f.file {
				return nil, invalid(fault.Field{Pointer: "file", Detail: "is required: the file with the lines"})
			}
			return f, nil
		case err != nil:
			return nil, brokenForm(err)
		case n >= maxFormFields:
			return nil, fault.New(fault.Invalid, "the form has more than %d fields", maxFormFields)
		}
		name := part.FormName()
		if name != "file" {
			text, err := io.ReadAll(io.LimitReader(part, maxDefaults+1))
			if err != nil {
				return nil, brokenForm(err)
			}
			if len(text) > maxDefaults {
				return nil, invalid(fault.Field{Pointer: name, Detail: fmt.Sprintf("must be at most %d bytes long", maxDefaults)})
			}
			f.fields.Add(name, string(text))
			continue
		}
		if f.file {
			return nil, invalid(fault.Field{Pointer: "file", Detail: "is given twice; upload one file at a time"})
		}
		f.file, f.name = true, fileName(part.FileName())
		f.media, _, _ = mime.ParseMediaType(part.Header.Get("Content-Type")) // none where it cannot be read
		a, err := arriveFrom(part)
		if err == nil {
			err = take(f, a)
		}
		if err != nil {
			return nil, brokenForm(err)
		}
	}
}

// brokenForm keeps faults, and says of all else that it is no form.
func brokenForm(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return fault.Wrap(fault.Invalid, err, "the form cannot be read; send multipart/form-data with the lines as its file")
}

// fileName is a name without folders and what cannot be shown.
func fileName(sent string) string {
	name := path.Base(strings.ReplaceAll(sent, `\`, "/"))
	if name == "." || name == "/" {
		return ""
	}
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return -1
		}
		return c
	}, name)
	if r := []rune(name); len(r) > maxUploadName {
		name = string(r[len(r)-maxUploadName:]) // its end says what it is
	}
	return name
}

// batchOfForm makes a batch of the file of a form.
func (s *Server) batchOfForm(in *intake, boundary string) (err error) {
	body, err := formBody(in)
	if err != nil {
		return err
	}
	f, err := readForm(body, boundary, func(_ *form, a *arriving) error {
		// Also of what is known: that this is a dry run may be said behind it.
		err := s.store(in.r.Context(), in.c, in.object(), a, -1)
		in.input = a.upload(in.object())
		return err
	})
	defer func() {
		dry := in.settings != nil && in.settings.dryRun
		if dry || in.known() || err != nil && !fault.Is(err, fault.Unavailable) {
			s.dropInput(in)
		}
	}()
	if err != nil {
		return err
	}
	fields := &input{members: make(map[string]any)}
	fields.fill(f.fields, in.c.op.query)
	fields.check(in.c.op.query)
	fields.join(in.c.query)
	if in.settings, err = s.batchSettings(in.c, fields); err != nil {
		return err
	}
	if in.settings.format == "" {
		in.settings.format = batchMedia[f.media]
	}
	if format := formatOfName(f.name); format != "" && (in.settings.format == "" || in.settings.format == batch.Text && !fields.says("format")) {
		in.settings.format = format // programs call any text text/plain
	}
	if in.settings.format == "" {
		return invalid(fault.Field{Pointer: "format", Detail: "is required, jsonl, csv or text: neither the name of the file nor its Content-Type says it"})
	}
	if !in.settings.dryRun {
		return s.finishIntake(in)
	}
	return s.dryRunOf(in, in.input.object)
}

func (in *input) says(name string) bool { return in.members[name] != nil }

// join takes in what the query says beside a body. Nothing is said in both.
func (in *input) join(query *input) {
	for name, v := range query.members {
		if in.says(name) {
			in.add(in.prefix+name, "is given twice, in the query too")
			continue
		}
		in.members[name] = v
		in.raw = nil
	}
}

// formBody is the body of a request that is a form.
func formBody(in *intake) (io.Reader, error) {
	if enc := in.r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, invalid(fault.Field{Pointer: "Content-Encoding", Detail: "is " + quotedName(enc) + "; pack the file, not the form"})
	}
	return patientBody(in.w, in.r, lines.MaxBytes+formOverhead)
}

// batchOfFile makes a batch of a file that was uploaded before.
func (s *Server) batchOfFile(in *intake) error {
	body, err := readBody(in.w, in.r)
	if err != nil {
		return err
	}
	req, err := in.c.op.decodeBody(body)
	if err != nil {
		return err
	}
	req.join(in.c.query)
	if in.settings, err = s.batchSettings(in.c, req); err != nil {
		return err
	}
	id, _ := req.members["file_id"].(string)
	file, err := s.file(in.r.Context(), in.c, id)
	if fault.Is(err, fault.NotFound) {
		return invalid(fault.Field{Pointer: "/file_id", Detail: "is of no file of the account; upload it with POST /v1/files"})
	}
	if err != nil {
		return err
	}
	if in.settings.format == "" {
		in.settings.format = formatOfName(file.Name)
	}
	if in.settings.format == "" {
		return invalid(fault.Field{Pointer: "/format", Detail: "is required, jsonl, csv or text: the name of the file does not say it"})
	}
	in.input = upload{object: file.Object, size: file.SizeBytes, gzip: strings.HasSuffix(strings.ToLower(file.Name), ".gz"), sum: file.SHA256, file: file.ID}
	if in.settings.dryRun {
		return s.dryRunOf(in, file.Object)
	}
	return s.finishIntake(in)
}
