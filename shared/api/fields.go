package api

import (
	"reflect"
	"strings"
)

// fieldsOf lists the JSON names of a body's fields, embedded ones included.
func fieldsOf(v any) []string {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.NumField() {
		field := t.Field(f)
		if field.Anonymous {
			names = append(names, fieldsOf(reflect.New(field.Type).Interface())...)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
