package apiserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
)

// whoami asks the server whose a token is.
func (r *running) whoami(ctx context.Context, token string) (authenticationv1.UserInfo, error) {
	client, err := kubernetes.NewForConfig(&restclient.Config{Host: r.url(), BearerToken: token, TLSClientConfig: restclient.TLSClientConfig{CAData: r.authority.CertPEM()}})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		switch {
		case err == nil:
			return review.Status.UserInfo, nil
		case !apierrors.IsForbidden(err) || time.Now().After(deadline): // in its first moments a server has no roles yet
			return authenticationv1.UserInfo{}, err
		}
	}
}

func (r *running) token(ctx context.Context, ns, account string, spec authenticationv1.TokenRequestSpec) (string, error) {
	answer, err := r.client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, account, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

// A token is its ServiceAccount, as long as that and what the token is bound to are there, and at its audience only.
func TestTokens(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core, ctx := shared.client.CoreV1(), t.Context()
	account := func(name string) {
		if _, err := core.ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	account("seller")
	secret, err := core.Secrets(ns).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bound"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node, err := core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "token-node-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := core.Pods(ns).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bound"}, Spec: corev1.PodSpec{
		ServiceAccountName: "seller", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gone := metav1.NewDeleteOptions(0)
	for _, test := range []struct {
		what string
		ref  *authenticationv1.BoundObjectReference
		end  func() error
	}{
		{"a Secret", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: "bound", UID: secret.UID}, func() error { return core.Secrets(ns).Delete(ctx, "bound", *gone) }},
		{"a Pod", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "bound", UID: pod.UID}, func() error { return core.Pods(ns).Delete(ctx, "bound", *gone) }},
		{"a Node", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}, func() error { return core.Nodes().Delete(ctx, node.Name, *gone) }},
		{"the ServiceAccount alone", nil, func() error { return core.ServiceAccounts(ns).Delete(ctx, "seller", *gone) }},
	} {
		token, err := shared.token(ctx, ns, "seller", authenticationv1.TokenRequestSpec{BoundObjectRef: test.ref})
		if err != nil {
			t.Fatalf("bound to %s: %v", test.what, err)
		}
		who, err := shared.whoami(ctx, token)
		if err != nil || who.Username != "system:serviceaccount:"+ns+":seller" || !strings.Contains(fmt.Sprint(who.Groups), "system:serviceaccounts:"+ns) {
			t.Errorf("bound to %s: it is %v, %v", test.what, who, err)
		}
		if test.what == "a Pod" && who.Extra["authentication.kubernetes.io/pod-name"][0] != "bound" {
			t.Errorf("bound to %s: %v", test.what, who.Extra)
		}
		if err := test.end(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if who, err := shared.whoami(ctx, token); !apierrors.IsUnauthorized(err) {
				return fmt.Errorf("bound to %s that is gone: %v, %v", test.what, who, err)
			}
			return nil
		})
		if test.ref != nil {
			if _, err := shared.token(ctx, ns, "seller", authenticationv1.TokenRequestSpec{BoundObjectRef: test.ref}); !apierrors.IsNotFound(err) {
				t.Errorf("a new token bound to %s that is gone: %v", test.what, err)
			}
		}
	}

	account("other")
	token, err := shared.token(ctx, ns, "other", authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shared.whoami(ctx, token); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token for somebody else: %v", err)
	}
	for audience, want := range map[string]bool{"vault": true, "bank": false, "": false} {
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
		if audience != "" {
			review.Spec.Audiences = []string{audience}
		}
		review, err := shared.client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil || review.Status.Authenticated != want {
			t.Errorf("reviewed for %q: %+v, %v", audience, review.Status, err)
		}
	}
	parts := strings.Split(token, ".")
	if _, err := shared.whoami(ctx, parts[0]+"."+parts[1]+"."+strings.ToUpper(parts[2])); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token with another signature: %v", err)
	}
}

// Tokens are good after a restart; the key is for its owner, and one that cannot be read is an error that says what to do.
func TestTokensOutliveARestart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := startFor(t, dualStack(dir))
	var token string
	eventually(t, func() (err error) {
		token, err = r.token(t.Context(), "default", "default", authenticationv1.TokenRequestSpec{})
		return err
	})
	r.stopNow(t)
	key := filepath.Join(dir, "pki", "serviceaccounts.key")
	if info, err := os.Stat(key); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	r = startFor(t, dualStack(dir))
	if who, err := r.whoami(t.Context(), token); err != nil || who.Username != "system:serviceaccount:default:default" {
		t.Errorf("%v, %v", who, err)
	}
	r.stopNow(t)
	writeFile(t, key, "nonsense")
	if s, err := New(dualStack(dir)); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "remove it to make a new one") {
		if err == nil {
			s.Close()
		}
		t.Errorf("got %v", err)
	}
}

// Others can verify tokens: the issuer describes itself to whoever has an account, and to whom a role says.
func TestIssuerDiscovery(t *testing.T) {
	t.Parallel()
	get := func(token, path string, into any) (int, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.url()+path, nil)
		if err != nil {
			return 0, err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: shared.authority.Pool(), MinVersion: tls.VersionTLS12}}}
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode == http.StatusOK {
			err = json.Unmarshal(body, into)
		}
		return response.StatusCode, err
	}
	ns := shared.namespace(t)
	var token string
	eventually(t, func() (err error) {
		token, err = shared.token(t.Context(), ns, "default", authenticationv1.TokenRequestSpec{})
		return err
	})
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	eventually(t, func() error {
		status, err := get(token, "/.well-known/openid-configuration", &about)
		if err == nil && (status != 200 || about.Issuer != tokenIssuer || about.Keys != "https://192.0.2.1:6443/openid/v1/jwks") {
			err = fmt.Errorf("%d %+v", status, about)
		}
		return err
	})
	var keys struct {
		Keys []struct{ Kid, Alg, Crv string } `json:"keys"`
	}
	if status, err := get(token, "/openid/v1/jwks", &keys); err != nil || status != 200 || len(keys.Keys) != 1 || keys.Keys[0].Alg != "ES256" {
		t.Errorf("%d %+v %v", status, keys, err)
	}
	if status, err := get("", "/openid/v1/jwks", &keys); err != nil || status != 403 {
		t.Errorf("nobody: %d %v", status, err)
	}
}

// A Secret that asks for a token gets one, which is good until the Secret goes.
func TestTokenSecret(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core := shared.client.CoreV1()
	if _, err := core.ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "seller"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: map[string]string{corev1.ServiceAccountNameKey: "seller"}}, Type: corev1.SecretTypeServiceAccountToken}
	if _, err := core.Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() (err error) {
		if secret, err = core.Secrets(ns).Get(t.Context(), "s", metav1.GetOptions{}); err == nil && (len(secret.Data["token"]) == 0 || string(secret.Data["ca.crt"]) != string(shared.authority.CertPEM())) {
			err = errors.New("no token, or no authority")
		}
		return err
	})
	token := string(secret.Data["token"])
	if who, err := shared.whoami(t.Context(), token); err != nil || who.Username != "system:serviceaccount:"+ns+":seller" {
		t.Errorf("%v, %v", who, err)
	}
	if err := core.Secrets(ns).Delete(t.Context(), "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if who, err := shared.whoami(t.Context(), token); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("after the Secret went: %v, %v", who, err)
		}
		return nil
	})
}

// Each namespace has what its Pods rely on, and has it again when it is taken away.
func TestNamespaceDefaults(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core := shared.client.CoreV1()
	there := func() error {
		m, err := core.ConfigMaps(ns).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil && m.Data["ca.crt"] != string(shared.authority.CertPEM()) {
			err = fmt.Errorf("ca.crt is %q", m.Data["ca.crt"])
		}
		if err == nil {
			_, err = core.ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		}
		return err
	}
	eventually(t, there)
	account, err := core.ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(core.ServiceAccounts(ns).Delete(t.Context(), "default", metav1.DeleteOptions{}), core.ConfigMaps(ns).Delete(t.Context(), "kube-root-ca.crt", metav1.DeleteOptions{})); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		again, err := core.ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		if err == nil && again.UID == account.UID {
			err = errors.New("the old one is still there")
		}
		return errors.Join(err, there())
	})
	m, err := core.ConfigMaps(ns).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data = map[string]string{"ca.crt": "mine", "more": "too"}
	if _, err := core.ConfigMaps(ns).Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, there)
}
