package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// programFolder, below the directory, comes first where programs are looked for.
	programFolder = "bin"
	// hostProc, below the directory, is where the machine's processes are seen from inside.
	hostProc = "host-proc"
	// dnsIP is the Service address of the cluster DNS.
	dnsIP = "10.96.0.10"
	// podImage is what capf-pod is in: each pod's sandbox, and whatever else tests run.
	podImage = "localhost/capf-e2e/pod:1"
	// netpolAddress is where what enforces NetworkPolicies says that it does.
	netpolAddress = "127.0.0.1:10300"
	// snapshotter copies layers instead of stacking them: images are small here, and it works on any file system.
	snapshotter = "native"
)

// binary is a part's program. The container runtime is the machine's, everything else was built.
func (p *plane) binary(part string) string {
	switch part {
	case "containerd":
		return binaries[part]
	case "netpol":
		return p.opts.netpol
	}
	return filepath.Join(p.opts.assets, binaries[part])
}

// path is what parts find programs by. Some that a node needs lie where not every user looks.
func (p *plane) path() string {
	path := os.Getenv("PATH")
	if p.opts.node {
		return filepath.Join(p.opts.dir, programFolder) + ":" + path + ":/usr/sbin:/sbin"
	}
	return path
}

func (p *plane) containerdSocket() string { return filepath.Join(p.opts.dir, "containerd.sock") }

// nodeFlags are the command lines of what makes a node. All listen in the node's own network only.
func (p *plane) nodeFlags(part string) []string {
	file := p.creds.path
	switch part {
	case "scheduler":
		return []string{
			"--kubeconfig=" + file("kubeconfig-kube-scheduler"),
			"--leader-elect=false",
			"--secure-port=0",
			"--profiling=false",
		}
	case "containerd":
		return []string{"--config=" + file("containerd.toml"), "--log-level=warn"}
	case "kubelet":
		return []string{
			"--kubeconfig=" + file("kubeconfig-kubelet"),
			"--config=" + file("kubelet.json"),
			"--hostname-override=" + nodeName,
			"--node-ip=" + nodeIP,
			"--root-dir=/var/lib/kubelet",
		}
	case "proxy":
		return []string{"--config=" + file("kube-proxy.json"), "--hostname-override=" + nodeName}
	case "netpol":
		return []string{
			"--kubeconfig=" + file("kubeconfig-netpol"), "--node=" + nodeName, "--service-range=" + serviceRange, "--listen=" + netpolAddress,
		}
	}
	panic("no flags for " + part)
}

// prepare writes the files that a part reads at its start.
func (p *plane) prepare(part string) error {
	switch part {
	case "containerd":
		return p.prepareContainerd()
	case "kubelet":
		// Empty: pods ask the cluster DNS, and what does not, nobody.
		if err := p.creds.write("resolv.conf", nil); err != nil {
			return err
		}
		return p.writeJSON("kubelet.json", p.kubeletConfig())
	case "proxy":
		return p.writeJSON("kube-proxy.json", p.proxyConfig())
	}
	return nil
}

func (p *plane) prepareContainerd() error {
	if err := os.MkdirAll(p.creds.path("cni"), 0o755); err != nil {
		return err
	}
	// The runtime fills in the pods' addresses as soon as the node has been given some. A pair of interfaces for each
	// pod and a route to it: unlike a bridge, that needs no br_netfilter for Services.
	network := `{
  "cniVersion": "0.4.0",
  "name": "capf-e2e",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {
        "type": "host-local",
        "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}],
        "routes": [{{range $i, $route := .Routes}}{{if $i}}, {{end}}{"dst": "{{$route}}"}{{end}}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`
	if err := p.creds.write("cni.template", []byte(network)); err != nil {
		return err
	}
	config := fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
# It would make /opt/containerd.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # As containerd 2 does: a process that is not root may take port 53.
  enable_unprivileged_ports = true
  # Without CAP_SYS_RESOURCE no sandbox would start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
    conf_template = %q
`, p.containerdSocket(), podImage, snapshotter, cniPlugins(), p.creds.path("cni"), p.creds.path("cni.template"))
	return p.creds.write("containerd.toml", []byte(config))
}

func (p *plane) kubeletConfig() map[string]any {
	return map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  nodeIP,
		"readOnlyPort":             0,
		"tlsCertFile":              p.creds.path("kubelet.crt"),
		"tlsPrivateKeyFile":        p.creds.path("kubelet.key"),
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}, "x509": map[string]any{"clientCAFile": p.creds.path("ca.crt")}},
		"authorization":            map[string]any{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + p.containerdSocket(),
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + groupOf(p.opts.dir),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"clusterDNS":               []string{dnsIP},
		"clusterDomain":            "cluster.local",
		"resolvConf":               p.creds.path("resolv.conf"),
		"podLogsDir":               "/var/log/pods",
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",
		// The default of -999 needs CAP_SYS_RESOURCE.
		"oomScoreAdj": 0,
		// What was imported cannot be pulled again, and a developer's disk may well be nearly full.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard":                map[string]string{"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
	}
}

func (p *plane) proxyConfig() map[string]any {
	return map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "iptables",
		"clientConnection":   map[string]any{"kubeconfig": p.creds.path("kubeconfig-kube-proxy")},
		"clusterCIDR":        podRange,
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		// Limits of connection tracking are the whole machine's.
		"conntrack":   map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"oomScoreAdj": 0,
	}
}

func (p *plane) writeJSON(name string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return p.creds.write(name, content)
}

// schedulerReady is that it runs: it listens on no port that could be asked, and the cluster DNS is the first pod that
// waits for it.
func (p *plane) schedulerReady(context.Context) error { return nil }

// containerdReady puts the sandboxes' image into it, which works as soon as it serves.
func (p *plane) containerdReady(ctx context.Context) error {
	return p.pack(ctx, podImage, p.opts.pod, "pause")
}

// pack makes an image of a program and imports it.
func (p *plane) pack(ctx context.Context, name, program string, args ...string) error {
	archive := filepath.Join(p.opts.dir, "image.tar")
	packing := []string{"archive", "--output", archive, "--name", name}
	for _, arg := range args {
		packing = append(packing, "--arg", arg)
	}
	if _, err := output(ctx, p.opts.pod, append(packing, "--", program)...); err != nil {
		return err
	}
	defer os.Remove(archive)
	_, err := output(ctx, "ctr", "--address="+p.containerdSocket(), "--namespace=k8s.io", "images", "import", "--snapshotter="+snapshotter, archive)
	return err
}

// kubeletReady asks the kubelet, and whether the API server has heard from it that the node is ready.
func (p *plane) kubeletReady(ctx context.Context) error {
	if _, err := get(ctx, http.DefaultTransport, "http://127.0.0.1:10248/healthz", ""); err != nil {
		return err
	}
	body, err := p.ask(ctx, "/api/v1/nodes/"+nodeName)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("cannot read the node: %w", err)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" {
			if condition.Status == "True" {
				return nil
			}
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
	}
	return fmt.Errorf("the kubelet has not said how the node is")
}

func (p *plane) proxyReady(ctx context.Context) error {
	_, err := get(ctx, http.DefaultTransport, "http://127.0.0.1:10256/healthz", "")
	return err
}

func (p *plane) netpolReady(ctx context.Context) error {
	_, err := get(ctx, http.DefaultTransport, "http://"+netpolAddress+"/", "")
	return err
}

// output runs a program and returns what it printed, or an error with what it complained about.
func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	printed, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return string(printed), nil
}

// hostPid is the number by which the machine knows a process of ours; the same without a node, and 0 for none.
func (p *plane) hostPid(pid int) int {
	if !p.opts.node || pid == 0 {
		return pid
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	processes := filepath.Join(p.opts.dir, hostProc)
	entries, _ := os.ReadDir(processes)
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if theirs, err := os.Readlink(filepath.Join(processes, entry.Name(), "ns/pid")); err != nil || theirs != own {
			continue
		}
		status, _ := os.ReadFile(filepath.Join(processes, entry.Name(), "status"))
		for line := range strings.Lines(string(status)) {
			// NSpid: its number in each process namespace, from the outermost to its own.
			if numbers := strings.Fields(line); numbers[0] == "NSpid:" && numbers[len(numbers)-1] == strconv.Itoa(pid) {
				return number
			}
		}
	}
	return 0
}
