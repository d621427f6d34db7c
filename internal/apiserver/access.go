package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizationunion "k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/client-go/informers"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

// componentGroup is the group of every component of this process; its members may do all.
const componentGroup = "fairway:components"

// publicPaths are open to everybody, also while the roles that say so are not there yet.
var publicPaths = []string{"/healthz", "/livez", "/readyz", "/version"}

// tokens are the credentials of the components of this process. They live in memory only.
type tokens struct {
	mu    sync.RWMutex
	users map[string]user.Info
}

// issue makes a token for a user. It stays good as long as the process lives.
func (t *tokens) issue(name string, groups ...string) string {
	token := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == nil {
		t.users = make(map[string]user.Info)
	}
	t.users[token] = &user.DefaultInfo{Name: name, Groups: groups}
	return token
}

// AuthenticateToken implements authenticator.Token.
func (t *tokens) AuthenticateToken(_ context.Context, token string) (*authenticator.Response, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	u, ok := t.users[token]
	if !ok {
		return nil, false, nil
	}
	return &authenticator.Response{User: u}, true, nil
}

// newAuthenticator accepts client certificates of the authority (the common name is the user, organizations are its groups), tokens
// of this process and those of ServiceAccounts. Who shows nothing is system:anonymous; who shows what is not good is nobody.
func newAuthenticator(authority *x509.CertPool, tokens *tokens, accounts authenticator.Token) authenticator.Request {
	bearer := tokenunion.New(authenticator.WrapAudienceAgnosticToken(tokenAudiences, tokens), accounts)
	known := union.New(newCertificates(authority), bearertoken.New(bearer))
	return union.NewFailOnError(group.NewAuthenticatedGroupAdder(known), anonymous.NewAuthenticator(nil))
}

// newAuthorizer allows everything to administrators and components, the public paths to everybody, and the rest by roles. The second
// result lists what somebody may do by roles.
func newAuthorizer(shared informers.SharedInformerFactory) (authorizer.Authorizer, authorizer.RuleResolver, error) {
	public, err := path.NewAuthorizer(publicPaths)
	if err != nil {
		return nil, nil, fmt.Errorf("authorizer: public paths: %w", err)
	}
	roles := shared.Rbac().V1()
	byRole := rbac.New(
		&rbac.RoleGetter{Lister: roles.Roles().Lister()},
		&rbac.RoleBindingLister{Lister: roles.RoleBindings().Lister()},
		&rbac.ClusterRoleGetter{Lister: roles.ClusterRoles().Lister()},
		&rbac.ClusterRoleBindingLister{Lister: roles.ClusterRoleBindings().Lister()},
	)
	all, err := authorizationunion.New(
		authorizationunion.NamedAuthorizer{AuthorizerName: "privileged", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup, componentGroup)},
		authorizationunion.NamedAuthorizer{AuthorizerName: "public", Authorizer: public},
		authorizationunion.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: byRole},
	)
	return all, byRole, err
}
