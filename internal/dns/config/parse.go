package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"bytes"

	"go.yaml.in/yaml/v3"
)

// reader walks a YAML document and the Go value that it fills at the same time, and notes every mistake.
type reader struct {
	name  string
	errs  []error
	lines map[string]int // where each field of the document stands, by its path
}

// Parse reads a configuration; name is how errors call the file.
func Parse(name string, data []byte) (*File, error) {
	f := Default()
	r := &reader{name: name, lines: map[string]int{}}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing but comments
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one document; give one", name)
	}
	r.value("", doc.Content[0], reflect.ValueOf(f).Elem())
	if len(r.errs) == 0 {
		r.check(f)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return f, nil
}

func (r *reader) fail(line int, path, format string, args ...any) {
	if path != "" {
		path += ": "
	}
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s%s", r.name, line, path, fmt.Sprintf(format, args...)))
}

// at notes a mistake in the value of a field, or in what should be there.
func (r *reader) at(path, format string, args ...any) {
	line, of := 0, path
	for line == 0 && of != "" {
		if line = r.lines[of]; line == 0 {
			of = of[:max(0, strings.LastIndexAny(of, ".["))]
		}
	}
	r.fail(max(line, 1), path, format, args...)
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func (r *reader) value(path string, n *yaml.Node, v reflect.Value) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	r.lines[path] = n.Line
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a field without a value is as good as absent
	}
	if v.CanAddr() && v.Addr().Type().Implements(textType) {
		if n.Kind != yaml.ScalarNode {
			r.fail(n.Line, path, "want one value, not a %s", kindOf(n))
		} else if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			r.fail(n.Line, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		r.fields(path, n, v)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			r.fail(n.Line, path, "want a list, not a %s", kindOf(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			if s, ok := v.Index(i).Addr().Interface().(*Stub); ok {
				s.Forward = defaultForward()
			}
			r.value(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))
		}
	default:
		r.scalar(path, n, v)
	}
}

func (r *reader) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		r.fail(n.Line, path, "want one value, not a %s", kindOf(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			r.fail(n.Line, path, "%q is neither true nor false", n.Value)
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil || i < 0 {
			r.fail(n.Line, path, "%q is no number from 0 on", n.Value)
			return
		}
		v.SetInt(int64(i))
	}
}

// fields fills a structure from a mapping. Fields of an inlined structure count as its own.
func (r *reader) fields(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		r.fail(n.Line, path, "want fields, not a %s", kindOf(n))
		return
	}
	into := fieldsOf(v)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i].Value, n.Content[i].Line
		sub := strings.TrimPrefix(path+"."+key, ".")
		field, ok := into[key]
		switch first, twice := seen[key]; {
		case !ok:
			r.fail(at, sub, "no such field; there are %s", strings.Join(sortedKeys(into), ", "))
		case twice:
			r.fail(at, sub, "given before, in line %d; keep one", first)
		default:
			r.value(sub, n.Content[i+1], field)
		}
		seen[key] = at
	}
}

func fieldsOf(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, inline, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if inline == "inline" {
			for k, f := range fieldsOf(v.Field(i)) {
				out[k] = f
			}
		} else {
			out[name] = v.Field(i)
		}
	}
	return out
}

func sortedKeys(m map[string]reflect.Value) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "value"
}
