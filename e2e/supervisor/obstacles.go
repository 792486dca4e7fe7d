package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// probeMode is how this program calls itself to find out what can be done in namespaces.
const probeMode = "probe"

// programs are what a node runs that is not built here, and the Debian package each is from.
var programs = [][2]string{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"containerd-shim-runc-v2", "containerd"}, {"runc", "runc"},
	{"iptables", "iptables"}, {"ip6tables", "iptables"}, {"conntrack", "conntrack"}, {"ipset", "ipset"},
	{"ip", "iproute2"}, {"mount", "mount"}, {"nsenter", "util-linux"},
}

// pluginFolders are where the CNI plugins may be: Debian's place, then everybody else's.
var pluginFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

var plugins = []string{"ptp", "host-local", "portmap", "loopback"}

// covered are folders that the node has of its own, so that nothing of the machine's is seen in them.
var covered = []string{"/run", "/var/lib", "/var/log"}

// obstacles are the reasons why there can be no node on this machine, for a person to read. None: there can.
func obstacles(opts options) []string {
	var reasons, missing []string
	if os.Geteuid() != 0 {
		reasons = append(reasons, "a node needs root: namespaces, mounts, control groups and packet filter rules")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program[0]); err != nil && !slices.Contains(missing, program[1]) {
			missing = append(missing, program[1])
		}
	}
	if cniPlugins() == "" {
		missing = append(missing, "containernetworking-plugins")
	}
	if len(missing) > 0 {
		reasons = append(reasons, "these packages (Debian's names) are missing: "+strings.Join(missing, " ")+"; e2e/node/packages installs them")
	}
	for _, part := range []string{"kubelet", "kube-proxy", "kube-scheduler"} {
		if _, err := os.Stat(filepath.Join(opts.assets, part)); err != nil && !opts.check {
			reasons = append(reasons, "there is no "+part+" in "+opts.assets)
		}
	}
	if _, err := os.Stat("/dev/kmsg"); err != nil {
		reasons = append(reasons, "a kubelet reads the kernel's messages, and there is no /dev/kmsg here")
	}
	for _, path := range []string{opts.dir, opts.assets, opts.coredns, opts.pod, opts.netpol} {
		for _, folder := range covered {
			if real, err := filepath.EvalSymlinks(folder); err == nil && strings.HasPrefix(path, real+"/") {
				reasons = append(reasons, path+" lies below "+folder+", which a node has of its own: set TMPDIR or XDG_CACHE_HOME to another place")
			}
		}
	}
	reasons = append(reasons, groupObstacles()...)
	// What follows would only say the same again in the kernel's words.
	if len(reasons) > 0 {
		return reasons
	}
	return probeNamespaces()
}

// groupObstacles tries what makeGroups will do.
func groupObstacles() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	available := ""
	if unified() {
		content, _ := os.ReadFile(filepath.Join(groupRoot, "cgroup.controllers"))
		available = string(content)
	} else {
		for _, tree := range groupTrees() {
			available += " " + strings.ReplaceAll(filepath.Base(tree), ",", " ")
		}
	}
	for _, controller := range neededControllers {
		if !slices.Contains(strings.Fields(available), controller) {
			return []string{fmt.Sprintf("a kubelet needs the control group controllers %s, and below %s there are only: %s",
				strings.Join(neededControllers, " "), groupRoot, strings.TrimSpace(available))}
		}
	}
	name := fmt.Sprintf("capf-e2e-probe-%d", os.Getpid())
	err := makeGroups(name)
	if removal := removeGroups(name); err == nil {
		err = removal
	}
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}

// cniPlugins is the folder with the plugins, or empty.
func cniPlugins() string {
	for _, folder := range pluginFolders {
		if !slices.ContainsFunc(plugins, func(plugin string) bool {
			_, err := os.Stat(filepath.Join(folder, plugin))
			return err != nil
		}) {
			return folder
		}
	}
	return ""
}

// probeNamespaces tries in namespaces of their own what the node will do in its own.
func probeNamespaces() []string {
	own, err := os.Executable()
	if err != nil {
		return []string{err.Error()}
	}
	var said bytes.Buffer
	cmd := exec.Command(own, probeMode)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	child, err := spawn(cmd)
	if err != nil {
		return []string{fmt.Sprintf("cannot make namespaces: %v", err)}
	}
	if child.status() != 0 {
		return []string{strings.TrimSpace(said.String())}
	}
	return nil
}

// probe is the process that does.
func probe([]string) int {
	err := ownNamespaces()
	if err == nil {
		err = privateMounts()
	}
	if err == nil {
		err = makeNetwork()
	}
	if err == nil {
		// Some of the rules that kube-proxy and capf-netpol make, with the less usual of their modules.
		if _, err = packetFilter(); err != nil {
			err = fmt.Errorf("the kernel cannot do the packet filter rules of Services and NetworkPolicies: %w", err)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// packetFilter is the folder with the variant of iptables that works here, empty if the usual one does. Debian's usual
// one speaks to nftables, which not every kernel has.
func packetFilter() (string, error) {
	err := command("ipset", "create", "probe", "hash:ip")
	if err != nil {
		return "", err
	}
	defer func() { _ = command("ipset", "destroy", "probe") }()
	for _, variant := range []string{"iptables", "iptables-legacy"} {
		err = nil
		for _, rule := range []string{
			"-t nat -A OUTPUT -m comment --comment probe -m statistic --mode random --probability 0.5 -j RETURN",
			"-t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
			"-t filter -A FORWARD -m conntrack --ctstate INVALID -j DROP",
			"-t filter -A FORWARD -m set --match-set probe src -m addrtype --src-type LOCAL -j REJECT",
			"-t nat -F", "-t filter -F",
		} {
			if err = command(variant, strings.Fields("-w 5 "+rule)...); err != nil {
				break
			}
		}
		if err == nil {
			if variant == "iptables" {
				return "", nil
			}
			return variant, nil
		}
	}
	return "", err
}
