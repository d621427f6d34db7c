package source

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"fairway.dev/fairway/internal/model"
)

// The annotation that named the class before spec.ingressClassName did; the field wins.
const classAnnotation = "kubernetes.io/ingress.class"

func ingress(o *networkingv1.Ingress) (*model.Ingress, bool) {
	i := &model.Ingress{
		Name:        model.Name{Namespace: o.Namespace, Name: o.Name},
		UID:         string(o.UID),
		Class:       o.Annotations[classAnnotation],
		Created:     o.CreationTimestamp.UTC(),
		Annotations: o.Annotations,
	}
	if c := o.Spec.IngressClassName; c != nil {
		i.Class = *c
	}
	i.Secrets = namedBy(o.Namespace, o.Annotations, secretAnnotations)
	i.ConfigMaps = namedBy(o.Namespace, o.Annotations, configMapAnnotations)
	if i.Annotations == nil {
		i.Annotations = map[string]string{}
	}
	if b := o.Spec.DefaultBackend; b != nil {
		d := ingressBackend(*b)
		i.Default = &d
	}
	for _, r := range o.Spec.Rules {
		i.Rules = append(i.Rules, ingressRule(r))
	}
	for _, t := range o.Spec.TLS {
		hosts := make([]string, len(t.Hosts))
		for n, h := range t.Hosts {
			hosts[n] = strings.ToLower(h)
		}
		i.TLS = append(i.TLS, model.IngressTLS{Hosts: hosts, Secret: t.SecretName})
	}
	return i, true
}

func ingressRule(r networkingv1.IngressRule) model.IngressRule {
	out := model.IngressRule{Host: strings.ToLower(r.Host)}
	if r.HTTP == nil {
		return out
	}
	for _, p := range r.HTTP.Paths {
		t := model.PathImplementationSpecific
		if p.PathType != nil {
			t = model.PathType(*p.PathType)
		}
		out.Paths = append(out.Paths, model.IngressPath{Path: p.Path, Type: t, Backend: ingressBackend(p.Backend)})
	}
	return out
}

func ingressBackend(b networkingv1.IngressBackend) model.IngressBackend {
	var out model.IngressBackend
	if s := b.Service; s != nil {
		out.Service, out.PortName = s.Name, s.Port.Name
		out.PortNumber, _ = port(s.Port.Number)
	}
	if r := b.Resource; r != nil {
		out.Resource = value(r.APIGroup) + "/" + r.Kind + "/" + r.Name
	}
	return out
}

func ingressClass(o *networkingv1.IngressClass) (*model.IngressClass, bool) {
	c := &model.IngressClass{
		Name:       o.Name,
		Controller: o.Spec.Controller,
		Default:    o.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true",
		Created:    o.CreationTimestamp.UTC(),
	}
	if p := o.Spec.Parameters; p != nil {
		c.Parameters = &model.ClassParameters{Group: value(p.APIGroup), Kind: p.Kind, Name: model.Name{Namespace: value(p.Namespace), Name: p.Name}}
	}
	return c, true
}

// certificate looks at the type although the list is narrowed by it: a server that does not know the selector must not make every Secret a
// certificate.
func certificate(o *corev1.Secret) (*model.Certificate, bool) {
	if o.Type != corev1.SecretTypeTLS {
		return nil, false
	}
	return &model.Certificate{
		Name: model.Name{Namespace: o.Namespace, Name: o.Name},
		Cert: o.Data[corev1.TLSCertKey],
		Key:  o.Data[corev1.TLSPrivateKeyKey],
	}, true
}
