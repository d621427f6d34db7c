package apiserver

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net/netip"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/routes"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// tokenIssuer is the name under which tokens of ServiceAccounts are issued. It stays the same whatever the cluster's domain is, so that tokens outlive a
// change of it.
const tokenIssuer = "https://kubernetes.default.svc.cluster.local"

// tokenAudiences is whom a token is for that does not say.
var tokenAudiences = authenticator.Audiences{tokenIssuer}

// accounts makes the tokens of ServiceAccounts and knows what they are bound to: a token is good as long as its ServiceAccount and the Pod, Secret or
// Node that it was made for exist. Nothing is remembered about a token, so its end counts at once.
type accounts struct {
	generator, legacy serviceaccount.TokenGenerator // legacy: for Secrets of type kubernetes.io/service-account-token
	keys              serviceaccount.PublicKeysGetter

	// Where what tokens are bound to is stored; set before the server runs.
	serviceAccounts, pods, secrets, nodes rest.Getter
}

func newAccounts(key *ecdsa.PrivateKey) (a *accounts, err error) {
	a = &accounts{}
	if a.generator, err = serviceaccount.JWTTokenGenerator(tokenIssuer, key); err != nil {
		return nil, fmt.Errorf("ServiceAccount tokens: %w", err)
	}
	if a.legacy, err = serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key); err != nil {
		return nil, fmt.Errorf("ServiceAccount tokens: %w", err)
	}
	if a.keys, err = serviceaccount.StaticPublicKeysGetter([]any{key}); err != nil {
		return nil, fmt.Errorf("ServiceAccount tokens: %w", err)
	}
	return a, nil
}

// authenticator accepts the tokens. It notes in a Secret, once a day, that its token was used.
func (a *accounts) authenticator(secrets coreclient.SecretsGetter) (authenticator.Token, error) {
	legacy, err := serviceaccount.NewLegacyValidator(true, a, secrets)
	if err != nil {
		return nil, fmt.Errorf("ServiceAccount tokens: %w", err)
	}
	return tokenunion.New(
		serviceaccount.JWTTokenAuthenticator([]string{tokenIssuer}, a.keys, tokenAudiences, serviceaccount.NewValidator(a)),
		serviceaccount.JWTTokenAuthenticator([]string{serviceaccount.LegacyIssuer}, a.keys, tokenAudiences, legacy),
	), nil
}

// discovery serves the issuer's description and public key, by which others verify tokens; address is where they reach the server.
func (a *accounts) discovery(server *genericapiserver.GenericAPIServer, address netip.AddrPort) error {
	metadata, err := serviceaccount.NewOpenIDMetadataProvider(tokenIssuer, "", address.String(), a.keys)
	if err != nil {
		return fmt.Errorf("ServiceAccount tokens: describe the issuer: %w", err)
	}
	routes.NewOpenIDMetadataServer(metadata).Install(server.Handler.GoRestfulContainer)
	return nil
}

var _ serviceaccount.ServiceAccountTokenGetter = (*accounts)(nil)

// stored gets an object from the watch cache, or, where that has not heard of it yet, from the database.
func stored[T runtime.Object](ctx context.Context, from rest.Getter, namespace, name string) (object T, err error) {
	ctx = request.WithNamespace(ctx, namespace)
	found, err := from.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		found, err = from.Get(ctx, name, &metav1.GetOptions{})
	}
	if err != nil {
		return object, err
	}
	return found.(T), nil
}

// GetServiceAccount implements serviceaccount.ServiceAccountTokenGetter.
func (a *accounts) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	o, err := stored[*core.ServiceAccount](ctx, a.serviceAccounts, namespace, name)
	if err != nil {
		return nil, err
	}
	return &corev1.ServiceAccount{ObjectMeta: o.ObjectMeta}, nil
}

// GetPod implements serviceaccount.ServiceAccountTokenGetter.
func (a *accounts) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	o, err := stored[*core.Pod](ctx, a.pods, namespace, name)
	if err != nil {
		return nil, err
	}
	return &corev1.Pod{ObjectMeta: o.ObjectMeta}, nil
}

// GetSecret implements serviceaccount.ServiceAccountTokenGetter.
func (a *accounts) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	o, err := stored[*core.Secret](ctx, a.secrets, namespace, name)
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{ObjectMeta: o.ObjectMeta, Type: corev1.SecretType(o.Type), Data: o.Data}, nil
}

// GetNode implements serviceaccount.ServiceAccountTokenGetter.
func (a *accounts) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	o, err := stored[*core.Node](ctx, a.nodes, metav1.NamespaceNone, name)
	if err != nil {
		return nil, err
	}
	return &corev1.Node{ObjectMeta: o.ObjectMeta}, nil
}

// GetValidatingWebhookConfiguration implements serviceaccount.ServiceAccountTokenGetter: there are none here.
func (*accounts) GetValidatingWebhookConfiguration(_ context.Context, name string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: "validatingwebhookconfigurations"}, name)
}

// GetMutatingWebhookConfiguration implements serviceaccount.ServiceAccountTokenGetter: there are none here.
func (*accounts) GetMutatingWebhookConfiguration(_ context.Context, name string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: "mutatingwebhookconfigurations"}, name)
}
