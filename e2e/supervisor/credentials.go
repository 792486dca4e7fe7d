package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// user is somebody the API server knows by a token.
type user struct {
	name string
	// groups beyond system:authenticated, which everybody with a token is in.
	groups []string
	// kubeconfig is a file name in the supervisor's directory.
	kubeconfig string
	token      string
}

// users are those of every control plane. The plain ones may do nothing until a test binds roles to them.
func users() []*user {
	all := []*user{
		{name: "admin", groups: []string{"system:masters"}, kubeconfig: "kubeconfig"},
		// Not by its RBAC role: that one expects each of its controllers to have a service account.
		{name: "system:kube-controller-manager", groups: []string{"system:masters"}, kubeconfig: "kubeconfig-kcm"},
	}
	for _, part := range []string{"kube-scheduler", "kube-proxy"} {
		all = append(all, &user{name: "system:" + part, kubeconfig: "kubeconfig-" + part})
	}
	// Reads pods, namespaces, policies and its node, for which Kubernetes has no role either.
	all = append(all, &user{name: "netpol", groups: []string{"system:masters"}, kubeconfig: "kubeconfig-netpol"})
	all = append(all, &user{name: "system:node:" + nodeName, groups: []string{"system:nodes"}, kubeconfig: "kubeconfig-kubelet"})
	for _, plain := range []string{"capf-controller", "capf-reporter", "capf-nobody"} {
		all = append(all, &user{name: plain, kubeconfig: "kubeconfig-" + plain})
	}
	for _, u := range all {
		u.token = randomHex(32)
	}
	return all
}

// credentials are the files that the parts of the control plane and their users need.
type credentials struct {
	dir   string
	users []*user
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

func (c *credentials) path(name string) string { return filepath.Join(c.dir, name) }

// newCredentials makes everything that does not depend on the API server's port.
func newCredentials(dir string) (*credentials, error) {
	c := &credentials{dir: dir, users: users()}
	var err error
	if c.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("cannot make the CA's key: %w", err)
	}
	template := certificate("capf-e2e CA")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &c.caKey.PublicKey, c.caKey)
	if err != nil {
		return nil, fmt.Errorf("cannot make the CA: %w", err)
	}
	if c.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("cannot read the CA just made: %w", err)
	}
	if err := c.write("ca.crt", pemOf("CERTIFICATE", der)); err != nil {
		return nil, err
	}
	api := certificate("kube-apiserver")
	api.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(serviceIP), net.ParseIP(nodeIP)}
	api.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if err := c.issue("apiserver", api, x509.ExtKeyUsageServerAuth); err != nil {
		return nil, err
	}
	kubelet := certificate(nodeName)
	kubelet.IPAddresses = []net.IP{net.ParseIP(nodeIP)}
	if err := c.issue("kubelet", kubelet, x509.ExtKeyUsageServerAuth); err != nil {
		return nil, err
	}
	// What the API server shows to a kubelet: logs, exec and port-forward go this way.
	client := certificate("kube-apiserver-kubelet-client")
	client.Subject.Organization = []string{"system:masters"}
	if err := c.issue("kubelet-client", client, x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	if err := c.serviceAccountKey(); err != nil {
		return nil, err
	}
	return c, c.write("tokens.csv", []byte(c.tokenFile()))
}

// issue makes a key and a certificate for it.
func (c *credentials) issue(name string, template *x509.Certificate, usage x509.ExtKeyUsage) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("cannot make the key %s: %w", name, err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, &key.PublicKey, c.caKey)
	if err != nil {
		return fmt.Errorf("cannot make the certificate %s: %w", name, err)
	}
	if err := c.write(name+".crt", pemOf("CERTIFICATE", der)); err != nil {
		return err
	}
	return c.writeKey(name+".key", key)
}

// serviceAccountKey signs service accounts' tokens.
func (c *credentials) serviceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("cannot make the service account key: %w", err)
	}
	return c.writeKey("service-account.key", key)
}

// tokenFile is in the form of kube-apiserver's --token-auth-file: token, name, uid, groups.
func (c *credentials) tokenFile() string {
	var lines strings.Builder
	for _, u := range c.users {
		fmt.Fprintf(&lines, "%s,%s,uid-%s,%q\n", u.token, u.name, u.name, strings.Join(u.groups, ","))
	}
	return lines.String()
}

// kubeconfigs writes one for each user.
func (c *credentials) kubeconfigs(server string) error {
	ca := base64.StdEncoding.EncodeToString(pemOf("CERTIFICATE", c.ca.Raw))
	for _, u := range c.users {
		text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: capf-e2e
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %[3]q
  user:
    token: %[4]s
contexts:
- name: capf-e2e
  context:
    cluster: capf-e2e
    user: %[3]q
    namespace: default
current-context: capf-e2e
`, server, ca, u.name, u.token)
		if err := c.write(u.kubeconfig, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func (c *credentials) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", name, err)
	}
	return c.write(name, pemOf("EC PRIVATE KEY", der))
}

func (c *credentials) write(name string, content []byte) error {
	if err := os.WriteFile(c.path(name), content, 0o600); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

// certificate is what all of ours have in common. No control plane of a test lives for a year.
func certificate(commonName string) *x509.Certificate {
	serial := new(big.Int).SetBytes(randomBytes(16))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func randomBytes(n int) []byte {
	bytes := make([]byte, n)
	// Never fails on Linux (crypto/rand ends the process instead).
	_, _ = rand.Read(bytes)
	return bytes
}

func randomHex(n int) string { return hex.EncodeToString(randomBytes(n)) }
