package job

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"slices"
	"testing"
)

// patience are the fields that do not change the picture.
var patience = []string{"TimeoutMS", "WaitTimeoutMS", "NavigationTimeoutMS"}

// TestCacheKey changes each field of a spec, whatever its type: all but the
// patience make another picture.
func TestCacheKey(t *testing.T) {
	base := Defaults()
	base.URL, base.Format = "https://example.com/", JPEG
	digest := func(secrets []byte) []byte {
		sum := sha256.Sum256(append([]byte("a key "), secrets...))
		return sum[:]
	}
	key := func(s Spec) []byte { return s.CacheKey("acc_a", digest) }
	if again := base; !bytes.Equal(key(base), key(again)) || len(key(base)) != 32 {
		t.Error("the same spec has two keys")
	}
	if bytes.Equal(key(base), base.CacheKey("acc_b", digest)) {
		t.Error("two accounts share a key")
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Spec]()) {
		if f.Type.Kind() == reflect.Struct || f.Name == "Secret" { // the names of what Secrets holds
			continue
		}
		s := base
		change(reflect.ValueOf(&s).Elem().FieldByIndex(f.Index))
		if same := bytes.Equal(key(base), key(s)); same != slices.Contains(patience, f.Name) {
			t.Errorf("%s: the same key: %t", f.Name, same)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Secrets]()) {
		s := base
		change(reflect.ValueOf(&s.Secrets).Elem().FieldByIndex(f.Index))
		if bytes.Equal(key(base), key(s)) {
			t.Errorf("Secrets.%s: the same key", f.Name)
		}
		if bytes.Equal(key(s), s.CacheKey("acc_a", bytes.Clone)) {
			t.Errorf("Secrets.%s: it is in the key without the digest's", f.Name)
		}
	}
	png := base
	png.Format = PNG
	better := png
	better.Quality = 90
	if !bytes.Equal(key(png), key(better)) {
		t.Error("quality makes two keys of a PNG, which has none")
	}
}

// change gives v another value of its type.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{"x"}))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"x": "x"}))
	}
}
