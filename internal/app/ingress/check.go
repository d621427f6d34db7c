package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/ingress/policy"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Result is what becomes of an Ingress as a whole.
type Result string

// The results, from the best to the worst.
const (
	// Served: as it is written.
	Served Result = "served"
	// Changed: every path is served, but something that it asks for is not done.
	Changed Result = "changed"
	// Partly: some paths answer 503 or are not served.
	Partly Result = "partly"
	// Closed: every path answers 503.
	Closed Result = "closed"
)

// Report is what Check found.
type Report struct {
	// Ingresses are ordered by namespace and name.
	Ingresses []Checked `json:"ingresses"`
	// Totals counts them by result.
	Totals map[Result]int `json:"totals"`
}

// Worst is the worst result of all; Served if there is none.
func (r *Report) Worst() Result {
	for _, x := range []Result{Closed, Partly, Changed} {
		if r.Totals[x] > 0 {
			return x
		}
	}
	return Served
}

// Checked is one Ingress.
type Checked struct {
	Namespace   string              `json:"namespace"`
	Name        string              `json:"name"`
	File        string              `json:"file,omitempty"`
	Class       string              `json:"class"`
	Result      Result              `json:"result"`
	Annotations []CheckedAnnotation `json:"annotations"`
	// Findings are about everything but annotations.
	Findings []CheckedFinding `json:"findings"`
	// Notes are what could not be looked at, and what the other controller did without being asked.
	Notes []string `json:"notes"`
}

// CheckedAnnotation is one annotation of an Ingress product.
type CheckedAnnotation struct {
	Name   string       `json:"name"`
	Value  string       `json:"value"`
	Level  policy.Level `json:"level"`
	Effect string       `json:"effect"` // done, ignored, or closes
	Note   string       `json:"note,omitempty"`
}

// CheckedFinding is one thing that its author should know.
type CheckedFinding struct {
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

// Check looks at every Ingress as if it were of a class of ours. parameters are those of that class, for Ingresses whose own class is another product's
// or does not exist.
func (w *World) Check(parameters map[string]string) (*Report, error) {
	known, err := policy.ParseClass(parameters)
	if err != nil {
		return nil, fmt.Errorf("class parameters: %w", err)
	}
	class, notes := w.adopt(parameters, known)
	table := compile.Build(w.store.Snapshot(), compile.Options{WithoutClass: true}, nil)
	findings := map[model.Name][]compile.Finding{}
	for _, f := range table.Findings {
		findings[f.Ingress] = append(findings[f.Ingress], f)
	}
	if !w.offline {
		w.backends(table, findings)
	}
	r := &Report{Ingresses: []Checked{}, Totals: map[Result]int{}}
	for i := range w.store.Snapshot().Ingresses.All() {
		c := w.checked(i, class[i.Name], table.Verdicts(i.Name), findings[i.Name])
		c.Notes = append(c.Notes, notes[i.Name]...)
		r.Ingresses = append(r.Ingresses, c)
		r.Totals[c.Result]++
	}
	return r, nil
}

func (w *World) checked(i *model.Ingress, class string, verdicts []policy.Verdict, findings []compile.Finding) Checked {
	c := Checked{Namespace: i.Name.Namespace, Name: i.Name.Name, File: w.from[i.Name], Class: class, Result: Served,
		Annotations: []CheckedAnnotation{}, Findings: []CheckedFinding{}, Notes: []string{}}
	closed, errors := false, 0
	for _, v := range verdicts {
		a := CheckedAnnotation{Name: v.Annotation, Value: i.Annotations[v.Annotation], Level: v.Result, Effect: "done", Note: v.Message}
		switch {
		case v.Closes:
			a.Effect, closed = "closes", true
		case v.Problem:
			a.Effect = "ignored"
			c.Result = Changed
		}
		c.Annotations = append(c.Annotations, a)
	}
	for _, f := range findings {
		if strings.HasPrefix(f.Message, "annotation ") || strings.HasPrefix(f.Message, "all of it answers 503: annotation ") {
			continue // told with the annotation
		}
		c.Findings = append(c.Findings, CheckedFinding{f.Severity.String(), f.Message})
		if f.Severity == compile.Error {
			errors++
			closed = closed || strings.HasPrefix(f.Message, "all of it answers 503")
		} else if c.Result == Served {
			c.Result = Changed
		}
	}
	switch {
	case closed:
		c.Result = Closed
	case errors > 0:
		c.Result = Partly
	}
	return c
}

// backends adds what is wrong with the Services that the routes lead to.
func (w *World) backends(t *compile.Table, findings map[model.Name][]compile.Finding) {
	for _, b := range t.Backends {
		if b.Ref == (compile.Ref{}) {
			continue
		}
		e := compile.Resolve(w.store.Snapshot(), compile.Options{}, b.Ref)
		for _, i := range b.Ingresses {
			if e.Problem != "" {
				findings[i] = append(findings[i], compile.Finding{Ingress: i, Severity: compile.Error, Message: e.Problem + ": its paths answer 503"})
			}
			if e.Advice != "" {
				findings[i] = append(findings[i], compile.Finding{Ingress: i, Severity: compile.Warning, Message: e.Advice})
			}
		}
	}
}

// adopted is the class that Ingresses of other products are looked at in. No API could have one of that name.
const adopted = "(fairway)"

// Adopt makes the Ingresses of other products ours, in a class with these parameters, and stands in for Secrets and ConfigMaps that are not among the
// files. Check does so by itself.
func (w *World) Adopt(parameters map[string]string) error {
	known, err := policy.ParseClass(parameters)
	if err != nil {
		return fmt.Errorf("class parameters: %w", err)
	}
	w.adopt(parameters, known)
	return nil
}

// adopt makes the Ingresses of other products ours, and stands in for objects that are not among the files.
func (w *World) adopt(parameters map[string]string, known *policy.Class) (class map[model.Name]string, notes map[model.Name][]string) {
	class, notes = map[model.Name]string{}, map[model.Name][]string{}
	snap := w.store.Snapshot()
	_, _ = w.store.Update(func(t *store.Txn) error {
		at := model.Name{Namespace: adopted, Name: "parameters"}
		t.PutConfigMap(&model.ConfigMap{Name: at, Data: parameters})
		t.PutClass(&model.IngressClass{Name: adopted, Controller: model.IngressController, Parameters: &model.ClassParameters{Kind: "ConfigMap", Name: at}})
		for i := range snap.Ingresses.All() {
			class[i.Name] = i.Class
			if c := snap.Classes.Get(model.Name{Name: i.Class}); c == nil || c.Controller != model.IngressController {
				own := *i
				own.Class = adopted
				t.PutIngress(&own)
				if len(i.TLS) > 0 && known.ToHTTPS == policy.Never && i.Annotations[policy.Domain+"ssl-redirect"] == "" &&
					i.Annotations[policy.Domain+"force-ssl-redirect"] == "" && ofNginx(snap, i) {
					notes[i.Name] = append(notes[i.Name], "ingress-nginx redirects plain HTTP to https here by itself: set the class parameter ssl-redirect, or the annotation")
				}
			}
			if w.offline {
				notes[i.Name] = append(notes[i.Name], standIn(t, snap, i)...)
			}
		}
		return nil
	})
	return class, notes
}

// ofNginx tells whether an Ingress was written for ingress-nginx.
func ofNginx(snap *store.Snapshot, i *model.Ingress) bool {
	c := snap.Classes.Get(model.Name{Name: i.Class})
	return c != nil && c.Controller == "k8s.io/ingress-nginx" || c == nil && strings.Contains(i.Class, "nginx")
}

// standIn puts something in the place of Secrets and ConfigMaps that are not among the files, so that what names them can be looked at.
func standIn(t *store.Txn, snap *store.Snapshot, i *model.Ingress) (notes []string) {
	for _, n := range i.Secrets {
		if snap.Secrets.Get(n) == nil {
			t.PutSecret(&model.Secret{Name: n, Data: map[string][]byte{"auth": []byte("stand-in:{PLAIN}x"), "ca.crt": []byte("stand-in")}})
			notes = append(notes, fmt.Sprintf("Secret %s is not among the files and was not looked at", n))
		}
	}
	for _, n := range i.ConfigMaps {
		if snap.ConfigMaps.Get(n) == nil {
			t.PutConfigMap(&model.ConfigMap{Name: n})
			notes = append(notes, fmt.Sprintf("ConfigMap %s is not among the files and was not looked at", n))
		}
	}
	for _, e := range i.TLS {
		n := model.Name{Namespace: i.Name.Namespace, Name: e.Secret}
		if e.Secret == "" || snap.Certificates.Get(n) != nil {
			continue
		}
		if c := standInCertificate(snap, n); c != nil {
			t.PutCertificate(c)
			notes = append(notes, fmt.Sprintf("Secret %s is not among the files and was not looked at", n))
		}
	}
	slices.Sort(notes)
	return slices.Compact(notes)
}

// standInCertificate makes one for every host that a Secret is named for.
func standInCertificate(snap *store.Snapshot, name model.Name) *model.Certificate {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<36, 0)}
	for i := range snap.Ingresses.In(name.Namespace) {
		for _, e := range i.TLS {
			if e.Secret == name.Name {
				tmpl.DNSNames = append(tmpl.DNSNames, e.Hosts...)
				if len(e.Hosts) == 0 {
					for _, r := range i.Rules {
						tmpl.DNSNames = append(tmpl.DNSNames, r.Host)
					}
				}
			}
		}
	}
	tmpl.DNSNames = slices.DeleteFunc(tmpl.DNSNames, func(h string) bool { return h == "" })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil
	}
	return &model.Certificate{Name: name, Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})}
}
