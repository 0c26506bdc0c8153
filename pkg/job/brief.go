package job

import "reflect"

// longText is from when on a text or a list is left out of a spec that is
// shown in brief, in bytes.
const longText = 1 << 10

// Brief is a spec that is too large to travel, as far as it does and is shown:
// without its texts and lists that are long, but for the URL.
func (s Spec) Brief() Spec {
	v := reflect.ValueOf(&s).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Name == "URL" {
			continue
		}
		switch field := v.FieldByIndex(f.Index); field.Kind() {
		case reflect.String:
			if field.Len() > longText {
				field.SetZero()
			}
		case reflect.Slice:
			size := 0
			for i := range field.Len() {
				size += field.Index(i).Len()
			}
			if size > longText {
				field.SetZero()
			}
		}
	}
	return s
}
