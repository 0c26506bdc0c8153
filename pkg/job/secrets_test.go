package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func someSecrets() Secrets {
	return Secrets{
		Headers: map[string]string{"X-Token": "marker-1"}, Cookies: []string{"sid=marker-2"},
		Authorization: "Bearer marker-3", BasicAuth: "user:marker-4", Proxy: "user:marker-5@proxy.example:3128",
	}
}

// Whatever a spec with secrets is written as, they are not in it.
func TestSecretsAreNotWritten(t *testing.T) {
	spec := Defaults()
	spec.URL, spec.Secrets = "https://example.com/", someSecrets()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a job", "secrets", spec.Secrets, "spec", spec, "pointer", &spec)
	slog.New(slog.NewTextHandler(&log, nil)).Info("a job", "secrets", spec.Secrets, "spec", spec, "pointer", &spec)
	inside, err := json.Marshal(struct{ S *Spec }{&spec})
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"JSON": string(spec.Marshal()), "JSON inside": string(inside), "log": log.String(),
		"%v": fmt.Sprintf("%v", spec), "%+v": fmt.Sprintf("%+v", &spec), "%#v": fmt.Sprintf("%#v", spec), "secrets": fmt.Sprintf("%v %#v %s", spec.Secrets, &spec.Secrets, spec.Secrets),
	} {
		if strings.Contains(text, "marker") {
			t.Errorf("%s: %s", what, text)
		}
	}
}

// Every secret is named once it is given, and comes back as it went.
func TestSecretsAreNamed(t *testing.T) {
	var every []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Secrets]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		every = append(every, name)
		var one Secrets
		all := someSecrets()
		reflect.ValueOf(&one).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(all).FieldByIndex(f.Index))
		if got := one.Given(); !slices.Equal(got, []string{name}) {
			t.Errorf("with %s alone %q are given", name, got)
		}
	}
	slices.Sort(every)
	all := someSecrets()
	if got := all.Given(); !slices.Equal(got, every) {
		t.Errorf("%q are given, want %q", got, every)
	}
	spec := Defaults()
	spec.URL, spec.Secrets, spec.Secret = "https://example.com/", all, []string{"cookies", "forged"}
	for _, e := range spec.Normalize(60_000) {
		if e.Field != "authorization" { // all of them at once say three times what is in that header
			t.Error(e)
		}
	}
	if !slices.Equal(spec.Secret, every) {
		t.Errorf("the spec names %q", spec.Secret)
	}
	if back, err := ParseSecrets(all.Marshal()); err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("they came back as %#v, %v", back.Given(), err)
	}
	if none, err := ParseSecrets(nil); err != nil || none.Marshal() != nil {
		t.Errorf("none became %v, %v", none, err)
	}
	if _, err := ParseSecrets([]byte(`{"authorization": marker}`)); err == nil || strings.Contains(err.Error(), "marker") {
		t.Errorf("damaged ones: %v", err)
	}
}

func TestSecretsAreBounded(t *testing.T) {
	spec := Defaults()
	spec.URL = "https://example.com/"
	long := "a=" + strings.Repeat("marker", 600)
	spec.Secrets = Secrets{Cookies: slices.Repeat([]string{long}, MaxSecrets/len(long)+1), Authorization: "x"}
	errs := spec.Normalize(60_000)
	if len(errs) != 1 || errs[0].Field != "cookies" || !strings.Contains(errs[0].Detail, "16384") || strings.Contains(errs[0].Detail, "marker") {
		t.Errorf("too many secrets: %v", errs)
	}
}

// What is shown of a large spec fits into its record, however it became large.
func TestBrief(t *testing.T) {
	spec := Defaults()
	spec.URL = "https://example.com/" + strings.Repeat("u", 15<<10)
	long := strings.Repeat("x", 64<<10)
	v := reflect.ValueOf(&spec).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		switch field := v.FieldByIndex(f.Index); {
		case f.Name == "URL" || f.Name == "Secret":
		case field.Kind() == reflect.String:
			field.SetString(long)
		case field.Type() == reflect.TypeFor[[]string]():
			field.Set(reflect.ValueOf(slices.Repeat([]string{long}, 10)))
		}
	}
	spec.TZ, spec.Click, spec.Secret = "Europe/Berlin", []string{"#a", "#b"}, []string{"cookies"}
	brief := spec.Brief()
	if n := len(brief.Marshal()); n > 32<<10 {
		t.Errorf("in brief it has %d bytes", n)
	}
	if brief.URL != spec.URL || brief.TZ != spec.TZ || len(brief.Click) != 2 || len(brief.Secret) != 1 {
		t.Errorf("what is short is gone: %s", brief.Marshal())
	}
	if spec.JS != long || len(spec.BlockURLs) != 10 {
		t.Error("the spec itself has changed")
	}
}
