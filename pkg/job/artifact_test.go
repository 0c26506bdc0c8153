package job

import (
	"bytes"
	"reflect"
	"testing"
)

// TestCacheKey changes each field of a spec: all but the patience make another
// picture. A field that is new stands here, or the test fails.
func TestCacheKey(t *testing.T) {
	base := Defaults()
	base.URL, base.Format = "https://example.com/", JPEG
	key := func(s Spec) []byte { return s.CacheKey("acc_a") }
	if again := base; !bytes.Equal(key(base), key(again)) || len(key(base)) != 32 {
		t.Error("the same spec has two keys")
	}
	if bytes.Equal(key(base), base.CacheKey("acc_b")) {
		t.Error("two accounts share a key")
	}
	changes := map[string]any{
		"URL": "https://example.com/?", "HTML": "<p>", "Format": PDF, "Quality": 81, "Width": 1281, "Height": 1025,
		"DeviceScaleFactor": 2.0, "FullPage": true, "WaitUntil": NetworkIdle0, "DelayMS": 1, "TimeoutMS": 29_999, "FailOnTimeout": true,
	}
	fields := reflect.TypeFor[Spec]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		value, known := changes[name]
		if !known {
			t.Errorf("%s: does it change the picture?", name)
			continue
		}
		s := base
		reflect.ValueOf(&s).Elem().Field(i).Set(reflect.ValueOf(value))
		if same := bytes.Equal(key(base), key(s)); same != (name == "TimeoutMS") {
			t.Errorf("%s: the same key: %t", name, same)
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
