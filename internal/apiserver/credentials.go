package apiserver

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/apiserver/pki"
)

// servingNames are the names under which Pods and people know the API.
func (s *Server) servingNames() []string {
	return []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + s.config.Domain}
}

// issueCertificates loads the certificates of earlier starts and makes those that are missing, out of date or too narrow.
func (s *Server) issueCertificates() (err error) {
	if s.authority, err = pki.Open(s.pkiDir()); err != nil {
		return err
	}
	s.serving, err = s.authority.Leaf(pki.Leaf{
		Name: "apiserver", CommonName: "fairway", Server: true,
		DNSNames: s.servingNames(), Addresses: s.servingAddresses(),
	})
	if err != nil {
		return err
	}
	s.admin, err = s.authority.Leaf(pki.Leaf{Name: "admin", CommonName: "admin", Groups: []string{user.SystemPrivilegedGroup}})
	if err != nil {
		return err
	}
	s.kubelet, err = s.authority.Leaf(pki.Leaf{Name: "kubelet-client", CommonName: kubeletClientName})
	if err != nil {
		return err
	}
	key, err := s.authority.SigningKey("serviceaccounts")
	if err != nil {
		return err
	}
	if s.accounts, err = newAccounts(key); err != nil {
		return err
	}
	s.loopback = s.ClientConfig("system:apiserver", user.SystemPrivilegedGroup)
	return nil
}

// kubeletClientName is the user that the API server is to a node.
const kubeletClientName = "fairway:kubelet-client"

func (s *Server) servingAddresses() []netip.Addr {
	addresses := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), s.allocators.FirstAddress()}
	for _, address := range append(slices.Clone(s.addresses), s.config.Advertise) {
		if a := address.Addr().WithZone(""); a.IsValid() && !a.IsUnspecified() && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// reachable is where Pods reach the server, or, where none is advertised, clients on this machine.
func (s *Server) reachable() netip.AddrPort {
	if s.config.Advertise.IsValid() {
		return s.config.Advertise
	}
	return s.addresses[0]
}

// url is where clients on this machine reach the server.
func (s *Server) url() string {
	address := s.addresses[0]
	if address.Addr().IsUnspecified() {
		loopback := netip.IPv6Loopback()
		if address.Addr().Is4() {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		address = netip.AddrPortFrom(loopback, address.Port())
	}
	return "https://" + address.String()
}

// ClientConfig returns credentials for a component of this process, good as long as the process lives. The component may do
// everything, under the given name and groups. Requests are not limited in rate and speak protobuf. Every call makes a
// new credential.
func (s *Server) ClientConfig(name string, groups ...string) *restclient.Config {
	return &restclient.Config{
		Host:            s.url(),
		BearerToken:     s.tokens.issue(name, append(slices.Clone(groups), componentGroup)...),
		TLSClientConfig: restclient.TLSClientConfig{CAData: s.authority.CertPEM()},
		UserAgent:       "fairway/" + name,
		QPS:             -1,
		ContentConfig: restclient.ContentConfig{
			ContentType:        runtime.ContentTypeProtobuf,
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	}
}

// WriteKubeconfig writes a kubeconfig with the client certificate of the administrator (group system:masters) and the
// authority's certificate inside, owned by uid and gid (-1 leaves them as they are), mode 0600. An existing file is replaced in
// one step, or not at all.
func (s *Server) WriteKubeconfig(path string, uid, gid int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("kubeconfig %s: write: %w", path, err)
		}
	}()
	config := clientcmdapi.NewConfig()
	config.Clusters["fairway"] = &clientcmdapi.Cluster{Server: s.url(), CertificateAuthorityData: s.authority.CertPEM()}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: s.admin.CertPEM, ClientKeyData: s.admin.KeyPEM}
	config.Contexts["fairway"] = &clientcmdapi.Context{Cluster: "fairway", AuthInfo: "admin", Namespace: "default"}
	config.CurrentContext = "fairway"
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails, as it should, after the rename
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Chown(uid, gid); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// KubeletServing returns the TLS configuration for the kubelet API of a node of this installation: a certificate for
// localhost and the given addresses of the node, and only the API server of this installation is let in.
func (s *Server) KubeletServing(nodeAddresses ...netip.Addr) (*tls.Config, error) {
	pair, err := s.authority.Leaf(pki.Leaf{
		Name: "kubelet", CommonName: "system:node", Groups: []string{"system:nodes"}, Server: true,
		DNSNames: []string{"localhost"}, Addresses: nodeAddresses,
	})
	if err != nil {
		return nil, err
	}
	certificate, err := pair.Certificate()
	if err != nil {
		return nil, fmt.Errorf("certificate kubelet: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    s.authority.Pool(),
		MinVersion:   tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			if name := state.PeerCertificates[0].Subject.CommonName; name != kubeletClientName {
				return fmt.Errorf("client certificate of %q: only the API server may use the kubelet API", name)
			}
			return nil
		},
	}, nil
}
