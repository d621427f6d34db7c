// Package podspec knows which fields of a Pod's description the stand-alone node does, and names those that it does not.
//
// Contract. A field that is accepted and does nothing is the worst answer. So what would make the Pod another one than was asked for is refused by
// the API when the Pod is created; what only adds protection or bookkeeping, and stands in many manifests, is let through and told in an Event of the
// Pod. Every field of the API's Pod is in one of the lists of fields.go: TestEveryField fails for a field that nobody has decided about. Check is pure.
//
// To debug, call Check. To test, give it Pods as literals.
package podspec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Finding is one field that asks for something that the node does not do.
type Finding struct {
	Field   string // such as spec.containers[0].securityContext.procMount
	Why     string // what does not happen, and what to do instead
	Refused bool   // the Pod must not run without it
}

func (f Finding) String() string { return f.Field + ": " + f.Why }

// Check gives what of a description the node does not do, in the order of the API's fields.
func Check(spec *corev1.PodSpec) []Finding {
	c := checker{spec: spec}
	c.fields(reflect.ValueOf(spec).Elem(), "", "spec")
	return c.found
}

type checker struct {
	spec  *corev1.PodSpec
	found []Finding
}

// fields looks at a struct. kind is its place in the API, where init containers are containers too; at is its place in this Pod.
func (c *checker) fields(v reflect.Value, kind, at string) {
	for i := range v.NumField() {
		kind, at := kind, at
		if name := fieldName(v.Type().Field(i)); name != "" { // otherwise its fields are the struct's own
			kind, at = under(kind, name), at+"."+name
		}
		c.value(v.Field(i), v.Addr().Interface(), kind, at)
	}
}

func (c *checker) value(v reflect.Value, parent any, kind, at string) {
	if v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
		return
	}
	v = reflect.Indirect(v)
	if rule, found := rules[kind]; found {
		if !slices.Contains(rule.except, fmt.Sprint(v.Interface())) && (rule.unless == nil || !rule.unless(parent, c.spec)) {
			c.found = append(c.found, Finding{at, rule.why, rule.refused})
		}
		return
	}
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			c.value(v.Index(i), parent, kind, fmt.Sprintf("%s[%d]", at, i))
		}
	case described(v.Type()):
		c.fields(v, kind, at)
	}
}

// described tells whether a type is a struct of the Pod's API, whose fields count one by one.
func described(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[corev1.PodSpec]().PkgPath()
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func under(kind, name string) string {
	switch {
	case kind == "" && name == "initContainers":
		return "containers"
	case kind == "":
		return name
	}
	return kind + "." + name
}
