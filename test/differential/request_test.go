package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/util/wait"
)

// session is one case on one server.
type session struct {
	*server
	namespace string // the case's own; attempt is its number
	attempt   int
	slot      int
	first     map[string]map[string]any // by name: what the server answered first
	last      map[string]map[string]any // and last
	names     tokens                    // addresses, ports and UIDs
	versions  map[string]any            // by name: the resource version that was answered last
	external  map[string]bool           // by name: it is or was an ExternalName
	forgetful bool                      // the server may lose track of addresses
	made      map[string]bool           // names of what it has made
	dry       bool                      // what is made normal is the answer to a dry run
}

// answer is what a server says to a request.
type answer struct {
	code     int
	warnings []string
	body     map[string]any
	text     string // if the body is no JSON
}

var contentTypes = map[string]string{
	"merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json",
	"json": "application/json-patch+json", "apply": "application/apply-patch+yaml",
}

// do sends a request of a case, again and again if it says until when.
func (s *session) do(ctx context.Context, r request) (*answer, error) {
	if r.until == 0 {
		return s.once(ctx, r)
	}
	return eventually(ctx, func() (*answer, bool, error) {
		a, err := s.once(ctx, r)
		there := r.with == ""
		if err == nil && !there {
			_, there = lookup(a.body, r.with)
		}
		return a, err == nil && there && a.code == r.until, err
	})
}

// eventually asks until the answer is the one that was waited for, or for so long that it is an answer too.
func eventually(ctx context.Context, ask func() (*answer, bool, error)) (a *answer, err error) {
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(context.Context) (done bool, err error) {
		a, done, err = ask()
		return done, err
	})
	if wait.Interrupted(err) && a != nil {
		return a, nil
	}
	return a, err
}

// has tells whether an object has all that another one has. Lists must be of one length.
func has(object, part any) bool {
	switch part := part.(type) {
	case map[string]any:
		in, ok := object.(map[string]any)
		for key, value := range part {
			ok = ok && has(in[key], value)
		}
		return ok
	case []any:
		in, ok := object.([]any)
		ok = ok && len(in) == len(part)
		for i := range part {
			ok = ok && has(in[i], part[i])
		}
		return ok
	}
	return object == part
}

// once sends a request of a case.
func (s *session) once(ctx context.Context, r request) (*answer, error) {
	filled, err := s.fill(r.body)
	if err != nil {
		return nil, err
	}
	name, err := s.fill(r.name)
	if err != nil {
		return nil, err
	}
	body, err := decode(filled)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filled, err)
	}
	object, _ := body.(map[string]any)
	if object == nil && r.verb != "json" && r.verb != "delete" {
		object = make(map[string]any)
		body = object
	}
	query := make(url.Values)
	if r.manager != "" {
		query.Set("fieldManager", r.manager)
	}
	if r.force {
		query.Set("force", "true")
	}
	if r.dry {
		query.Set("dryRun", "All")
	}
	if r.strict {
		query.Set("fieldValidation", "Strict")
	}
	path := s.collection(r.resource) + "/" + name
	if r.status {
		path += "/status"
	}
	switch r.verb {
	case "create":
		r.complete(object, name)
		if prefix, ok := lookup(object, "metadata.generateName"); ok {
			s.names.prefixes = append(s.names.prefixes, fmt.Sprint(prefix))
		}
		return s.send(ctx, http.MethodPost, s.collection(r.resource), query, "application/json", body)
	case "put":
		r.complete(object, name)
		return s.send(ctx, http.MethodPut, path, query, "application/json", body)
	case "edit":
		now, err := s.send(ctx, http.MethodGet, path, nil, "", nil)
		if err != nil || now.code != http.StatusOK {
			return now, err
		}
		edited, err := mergePatch(now.body, body)
		if err != nil {
			return nil, err
		}
		return s.send(ctx, http.MethodPut, path, query, "application/json", edited)
	case "apply":
		r.complete(object, name)
		if r.manager == "" {
			query.Set("fieldManager", "alice")
		}
		return s.send(ctx, http.MethodPatch, path, query, contentTypes[r.verb], body)
	case "merge", "strategic", "json":
		return s.send(ctx, http.MethodPatch, path, query, contentTypes[r.verb], body)
	case "delete":
		return s.send(ctx, http.MethodDelete, path, query, "application/json", body)
	case "get":
		return s.send(ctx, http.MethodGet, path, query, "", nil)
	case "await", "gone":
		return eventually(ctx, func() (*answer, bool, error) {
			a, err := s.send(ctx, http.MethodGet, path, query, "", nil)
			return a, err == nil && (r.verb == "gone" && a.code == http.StatusNotFound || r.verb == "await" && has(a.body, body)), err
		})
	case "list":
		return s.send(ctx, http.MethodGet, s.collection(r.resource), query, "", nil)
	case "clear":
		return s.send(ctx, http.MethodDelete, s.collection(r.resource), query, "application/json", body)
	}
	panic("no such verb: " + r.verb) // parse has looked
}

// mergePatch is RFC 7386.
func mergePatch(to, patch any) (out any, err error) {
	from, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	change, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	merged, err := jsonpatch.MergePatch(from, change)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(merged, &out)
}

func (s *session) collection(resource string) string {
	g := groups[resource]
	if g.cluster {
		return g.path + "/" + resource
	}
	return g.path + "/namespaces/" + s.namespace + "/" + resource
}

func (s *server) send(ctx context.Context, method, path string, query url.Values, contentType string, body any) (*answer, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path+"?"+query.Encode(), content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "differential")
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{code: response.StatusCode, warnings: response.Header.Values("Warning")}
	if err := json.Unmarshal(text, &a.body); err != nil {
		a.text = string(text)
	}
	return a, nil
}

var placeholder = regexp.MustCompile(`<(first )?([a-z0-9.-]+)([.:])([a-zA-Z0-9.]+)>`)

// fill replaces the placeholders of a body or a name.
func (s *session) fill(body string) (string, error) {
	var wrong error
	body = strings.ReplaceAll(body, "<ns>", s.namespace)
	filled := placeholder.ReplaceAllStringFunc(body, func(match string) string {
		part := placeholder.FindStringSubmatch(match)
		if part[3] == ":" {
			n, err := strconv.Atoi(part[4])
			if err != nil {
				wrong = err
			}
			return s.choice(part[2], n)
		}
		object := s.last
		if part[1] != "" {
			object = s.first
		}
		name, path, _ := strings.Cut(part[2]+"."+part[4], ".")
		value, ok := lookup(object[name], path)
		if !ok {
			// What cannot be had is an answer too: the other server has none either.
			return "missing"
		}
		return fmt.Sprint(value)
	})
	return filled, wrong
}

// lookup finds a value by its path, like spec.ports.0.nodePort.
func lookup(in any, path string) (any, bool) {
	for key := range strings.SplitSeq(path, ".") {
		switch at := in.(type) {
		case map[string]any:
			in = at[key]
		case []any:
			n, err := strconv.Atoi(key)
			if err != nil || n >= len(at) {
				return nil, false
			}
			in = at[n]
		}
	}
	if f, ok := in.(float64); ok {
		return int64(f), true
	}
	return in, in != nil
}
