package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// serviceRange is where ClusterIPs come from. Nothing routes them; tests only see them as fields.
	serviceRange = "10.96.0.0/16"
	// serviceIP is the first of them, which the Service "kubernetes" gets.
	serviceIP = "10.96.0.1"
)

// ports are those that something listens on, all on loopback.
type ports struct{ etcd, apiserver int }

// freePorts picks ports that nobody listens on, below the range that the kernel hands to outgoing connections: a part
// that is restarted must find its port still free, whatever connected to somewhere meanwhile.
func freePorts() (ports, error) {
	etcd, err := listen()
	if err != nil {
		return ports{}, err
	}
	defer etcd.Close()
	apiserver, err := listen()
	if err != nil {
		return ports{}, err
	}
	defer apiserver.Close()
	return ports{etcd: etcd.Addr().(*net.TCPAddr).Port, apiserver: apiserver.Addr().(*net.TCPAddr).Port}, nil
}

// claims are held as long as this process runs. A listener that nothing leads to any more would be closed.
var claims []net.Listener

// listen takes a port on the loopback that no other test on this machine has been given, as free_port of e2e/harness
// does: whoever has the abstract socket of its name has the port, also while nobody listens on it.
func listen() (net.Listener, error) {
	for range 1000 {
		port := 20000 + rand.IntN(12768)
		claim, err := net.Listen("unix", fmt.Sprintf("@capf-e2e-port-%d", port))
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			claim.Close()
			continue
		}
		claims = append(claims, claim)
		return listener, nil
	}
	return nil, fmt.Errorf("cannot find a free port from 20000 to 32767 on 127.0.0.1")
}

func (p *plane) etcdURL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.ports.etcd) }
func (p *plane) server() string  { return fmt.Sprintf("https://127.0.0.1:%d", p.ports.apiserver) }

// flags are a part's command line.
func (p *plane) flags(part string) []string {
	file := p.creds.path
	switch part {
	case "etcd":
		return append(p.durability(),
			"--data-dir="+p.data(),
			"--name=e2e",
			"--listen-client-urls="+p.etcdURL(),
			"--advertise-client-urls="+p.etcdURL(),
			// It has no peers, but insists on listening for them.
			"--listen-peer-urls=http://127.0.0.1:0",
			"--initial-advertise-peer-urls=http://127.0.0.1:0",
			"--initial-cluster=e2e=http://127.0.0.1:0",
			// Alone, it elects itself when this has passed (milliseconds; the default is 1000): every start waits for it.
			"--election-timeout=500",
			"--log-level=warn",
		)
	case "apiserver":
		return append(p.reachability(),
			"--etcd-servers="+p.etcdURL(),
			fmt.Sprintf("--secure-port=%d", p.ports.apiserver),
			"--tls-cert-file="+file("apiserver.crt"),
			"--tls-private-key-file="+file("apiserver.key"),
			"--token-auth-file="+file("tokens.csv"),
			"--authorization-mode=Node,RBAC",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+file("service-account.key"),
			"--service-account-signing-key-file="+file("service-account.key"),
			"--service-cluster-ip-range="+serviceRange,
			"--allow-privileged=true",
			// Twice the defaults, so that a load test measures the product and not these.
			"--max-requests-inflight=800",
			"--max-mutating-requests-inflight=400",
			// Asked to end, it would wait a minute for watches that nobody ends.
			"--shutdown-watch-termination-grace-period=1s",
			// What only several API servers, or somebody who profiles this one, would need.
			"--feature-gates=APIServerIdentity=false",
			"--profiling=false",
		)
	case "kcm":
		return append(p.controllers(),
			"--kubeconfig="+file("kubeconfig-kcm"),
			"--leader-elect=false",
			"--secure-port=0",
			"--service-account-private-key-file="+file("service-account.key"),
			"--root-ca-file="+file("ca.crt"),
			// The default of 20 a second makes namespaces and owned objects of a load test disappear for minutes.
			"--kube-api-qps=200",
			"--kube-api-burst=400",
			"--profiling=false",
		)
	}
	return p.nodeFlags(part)
}

// reachability is where the API server listens, and what it tells pods of that.
func (p *plane) reachability() []string {
	if !p.opts.node {
		return []string{"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"}
	}
	return []string{
		// All addresses of a network that nothing outside leads to.
		"--bind-address=0.0.0.0",
		"--advertise-address=" + nodeIP,
		"--enable-admission-plugins=NodeRestriction",
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + p.creds.path("ca.crt"),
		"--kubelet-client-certificate=" + p.creds.path("kubelet-client.crt"),
		"--kubelet-client-key=" + p.creds.path("kubelet-client.key"),
	}
}

// controllers are those that kube-controller-manager runs.
func (p *plane) controllers() []string {
	if p.opts.node {
		return []string{"--allocate-node-cidrs=true", "--cluster-cidr=" + podRange, "--service-cluster-ip-range=" + serviceRange}
	}
	// Volumes: no node here mounts any, and attach-detach looks for work ten times a second.
	return []string{"--controllers=*,-persistentvolume-attach-detach-controller,-persistentvolume-binder-controller," +
		"-persistentvolume-expander-controller,-ephemeral-volume-controller"}
}

// durability trades what survives a crash of the machine for speed, unless asked not to. A killed etcd loses nothing
// either way: the kernel has what was written.
func (p *plane) durability() []string {
	if p.opts.etcdFsync {
		return nil
	}
	return []string{"--unsafe-no-fsync"}
}

func (p *plane) etcdReady(ctx context.Context) error {
	_, err := get(ctx, http.DefaultTransport, p.etcdURL()+"/health", "")
	return err
}

// apiserverReady also asks for the default namespace, which is made just after the server says it is ready.
func (p *plane) apiserverReady(ctx context.Context) error {
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		if _, err := p.ask(ctx, path); err != nil {
			return err
		}
	}
	body, err := p.ask(ctx, "/version")
	if err != nil {
		return err
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return fmt.Errorf("cannot read the version: %w", err)
	}
	p.version = version.GitVersion
	return nil
}

// kcmReady looks for something that only kube-controller-manager makes; it listens on no port that could be asked.
func (p *plane) kcmReady(ctx context.Context) error {
	_, err := p.ask(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	return err
}

// ask gets a path of the API as admin, on a connection of its own: one of before a restart would only fail.
func (p *plane) ask(ctx context.Context, path string) ([]byte, error) {
	roots := x509.NewCertPool()
	roots.AddCert(p.creds.ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return get(ctx, transport, p.server()+path, p.creds.users[0].token)
}

// get answers within two seconds.
func get(ctx context.Context, transport http.RoundTripper, url, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
