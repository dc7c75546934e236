package job

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// fill sets every field, however deep, to something that is not zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 4))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(k, n)
			fill(e, n)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("fill: teach me " + v.Type().String())
	}
}

// shared reports the paths at which a and b point to the same memory.
func shared(path string, a, b reflect.Value) []string {
	var found []string
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return nil
		}
		if a.Pointer() == b.Pointer() {
			return []string{path}
		}
		return shared(path, a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Pointer() == b.Pointer() && a.Cap() > 0 {
			return []string{path}
		}
		for i := range min(a.Len(), b.Len()) {
			found = append(found, shared(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))...)
		}
	case reflect.Map:
		if a.Pointer() == b.Pointer() && !a.IsNil() {
			return []string{path}
		}
		for _, k := range a.MapKeys() {
			if e := b.MapIndex(k); e.IsValid() {
				found = append(found, shared(fmt.Sprintf("%s[%v]", path, k), a.MapIndex(k), e)...)
			}
		}
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			return nil // its location is shared and never written to
		}
		for i := range a.NumField() {
			found = append(found, shared(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))...)
		}
	}
	return found
}

func TestCloneIsEqualAndSharesNothing(t *testing.T) {
	var j Job
	n := 0
	fill(reflect.ValueOf(&j).Elem(), &n)
	c := j.Clone()
	if !reflect.DeepEqual(&j, c) {
		t.Fatalf("not equal:\n%+v\n%+v", j, *c)
	}
	for _, path := range shared("Job", reflect.ValueOf(&j).Elem(), reflect.ValueOf(c).Elem()) {
		t.Errorf("%s is not cloned: add it to clone.go", path)
	}
	fill(reflect.ValueOf(c).Elem(), &n)
	c.Attempts[0].Doomed = false
	if j.Attempts[0].Doomed == false || reflect.DeepEqual(j.Spec, c.Spec) {
		t.Error("a change of the clone reached the job")
	}
}

func TestCloneOfNothing(t *testing.T) {
	var none *Job
	if none.Clone() != nil {
		t.Error("the clone of nil is something")
	}
	if empty := (&Job{}); !reflect.DeepEqual(empty, empty.Clone()) {
		t.Error("the clone of an empty job is not empty")
	}
}

func BenchmarkClone(b *testing.B) {
	j := &Job{Attempts: make([]Attempt, 3), Outbox: make([]Message, 1), Spec: Spec{Command: []string{"a"}, Env: map[string]string{"a": "b"}}}
	for b.Loop() {
		j.Clone()
	}
}
