package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const dnsImage = "localhost/capf-e2e/coredns:1"

// clusterDNS runs CoreDNS as a pod like any other and returns when it is available.
func (p *plane) clusterDNS(ctx context.Context) error {
	if err := p.pack(ctx, dnsImage, p.opts.coredns, "-conf", "/etc/coredns/Corefile"); err != nil {
		return err
	}
	if err := p.kubectl(ctx, dnsManifest, "apply", "-f", "-"); err != nil {
		return err
	}
	return p.kubectl(ctx, "", "rollout", "status", "--namespace=kube-system", "deployment/coredns")
}

// kubectl runs it as administrator.
func (p *plane) kubectl(ctx context.Context, input string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(p.opts.assets, "kubectl"), args...)
	cmd.Env = []string{"KUBECONFIG=" + p.creds.path("kubeconfig"), "KUBECACHEDIR=" + p.creds.path("kubectl-cache"), "KUBERC=off"}
	cmd.Stdin = strings.NewReader(input)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// dnsManifest asks for what a CoreDNS needs, and no more. It forwards nothing: there is no outside.
const dnsManifest = `
apiVersion: v1
kind: ServiceAccount
metadata:
  name: coredns
  namespace: kube-system
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: capf-e2e:coredns
rules:
- apiGroups: [""]
  resources: [services, namespaces]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: capf-e2e:coredns
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: capf-e2e:coredns
subjects:
- kind: ServiceAccount
  name: coredns
  namespace: kube-system
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
data:
  Corefile: |
    . {
      errors
      health :8080 {
        lameduck 2s
      }
      ready :8181
      kubernetes cluster.local in-addr.arpa {
        ttl 5
      }
      loadbalance
    }
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: coredns
  namespace: kube-system
spec:
  selector:
    matchLabels: {k8s-app: kube-dns}
  template:
    metadata:
      labels: {k8s-app: kube-dns}
    spec:
      serviceAccountName: coredns
      # Its own resolver would be itself.
      dnsPolicy: Default
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: coredns
        image: ` + dnsImage + `
        ports:
        - {name: dns, containerPort: 53, protocol: UDP}
        - {name: dns-tcp, containerPort: 53, protocol: TCP}
        readinessProbe:
          httpGet: {path: /ready, port: 8181}
          periodSeconds: 1
        livenessProbe:
          httpGet: {path: /health, port: 8080}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: config, mountPath: /etc/coredns, readOnly: true}
      volumes:
      - name: config
        configMap: {name: coredns}
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
spec:
  clusterIP: ` + dnsIP + `
  selector: {k8s-app: kube-dns}
  ports:
  - {name: dns, port: 53, targetPort: dns, protocol: UDP}
  - {name: dns-tcp, port: 53, targetPort: dns-tcp, protocol: TCP}
`
