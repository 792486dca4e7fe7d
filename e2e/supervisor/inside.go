package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// secondMode is how this program calls itself as the second process of the node's namespaces.
const secondMode = "second"

const (
	nodeName = "node-1"
	// nodeIP is the node's address in its own network, which nothing outside has a route to.
	nodeIP = "10.95.0.1"
	// podRange is where the node's share of pod addresses comes from.
	podRange = "10.244.0.0/16"
	// outsideRange are the addresses of those who come to the node from outside, as phones do.
	outsideRange = "10.95.8.0/24"
	outsideIP    = "10.95.8.1"
	// outsideNetwork is their network's name, as `ip netns` has it.
	outsideNetwork = "outside"
)

// tunables are settings of the whole machine that a kubelet changes to these values at its start. It is shown files
// that have them already.
var tunables = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// inside is the first process of the node's namespaces: it sets them up, starts a second process that does the rest,
// and collects orphans, of which a container runtime makes many.
func inside(args []string) int {
	opts, err := parse(insideMode, args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e inside: %v\n", err)
		return 2
	}
	if err := ownNamespaces(); err != nil {
		return fail(err)
	}
	if err := setUp(opts); err != nil {
		return fail(err)
	}
	own, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	child, err := os.StartProcess(own, append([]string{own, secondMode}, args...), &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fail(err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fail(fmt.Errorf("cannot wait for processes: %w", err))
		case pid == child.Pid && status.Exited():
			return status.ExitStatus()
		case pid == child.Pid:
			return 128 + int(status.Signal())
		}
	}
}

// second runs what is to be run, in namespaces that are ready for it.
func second(args []string) int {
	opts, err := parse(secondMode, args)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	return run(ctx, cancel, opts)
}

// ownNamespaces makes sure that what follows changes nothing of the machine's.
func ownNamespaces() error {
	if os.Getpid() != 1 || os.Getppid() != 0 {
		return fmt.Errorf("this is not the first process of its namespaces")
	}
	// A new network has a few interfaces, such as lo, but none that is up.
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, found := range interfaces {
		if found.Flags&net.FlagUp != 0 {
			return fmt.Errorf("this network is in use already: %s is up", found.Name)
		}
	}
	return nil
}

// setUp makes the namespaces a machine of its own.
func setUp(opts options) error {
	if err := syscall.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	// The machine's processes, to tell their ids to the caller; mounted here, it is in nobody's way outside.
	hostProcesses := filepath.Join(opts.dir, hostProc)
	if err := os.Mkdir(hostProcesses, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := bind("/proc", hostProcesses); err != nil {
		return err
	}
	if err := privateMounts(); err != nil {
		return err
	}
	for _, folder := range covered {
		if folder == "/run" {
			continue
		}
		// The logs are the ones that are kept where logs are kept.
		own := map[string]string{"/var/lib": filepath.Join(opts.dir, "var-lib"), "/var/log": filepath.Join(opts.dir, "logs")}[folder]
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		if err := bind(own, folder); err != nil {
			return err
		}
	}
	for name, value := range tunables {
		file := filepath.Join(opts.dir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := bind(file, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	if err := makeNetwork(); err != nil {
		return err
	}
	variant, err := packetFilter()
	if err != nil || variant == "" {
		return err
	}
	return insteadOfIptables(opts, variant)
}

// privateMounts makes what is mounted from here on invisible outside, and shows these processes alone.
func privateMounts() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	// Sockets, locks and network namespaces, all at well-known places below it.
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("cannot mount /run: %w", err)
	}
	return nil
}

func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", from, to, err)
	}
	return nil
}

// makeNetwork gives the node an address, on an interface whose other end is in a second network. From there come those
// who are not part of the cluster: what a node port does with a client's address shows only with clients that are
// neither pods nor the node itself.
func makeNetwork() error {
	for _, line := range []string{
		"link set lo up",
		"netns add " + outsideNetwork,
		"link add node0 type veth peer name wire0 netns " + outsideNetwork,
		"link set node0 up",
		"addr add " + nodeIP + "/32 dev node0",
		"route add " + outsideRange + " dev node0 src " + nodeIP,
		// So that a process of the node itself reaches Services: there must be a route before kube-proxy's rules are
		// looked at. There is no default route: what is nowhere is unreachable at once.
		"route add " + serviceRange + " dev node0 src " + nodeIP,
		"-netns " + outsideNetwork + " link set lo up",
		"-netns " + outsideNetwork + " link set wire0 up",
		"-netns " + outsideNetwork + " addr add " + outsideIP + "/24 dev wire0",
		// Every address of the range is theirs, to come from.
		"-netns " + outsideNetwork + " route add local " + outsideRange + " dev lo",
		"-netns " + outsideNetwork + " route add " + nodeIP + " dev wire0",
		"-netns " + outsideNetwork + " route add default via " + nodeIP,
	} {
		if err := command("ip", strings.Fields(line)...); err != nil {
			return fmt.Errorf("cannot set up the node's network: %w", err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0); err != nil {
		return fmt.Errorf("cannot set up the node's network: %w", err)
	}
	return nil
}

// insteadOfIptables makes the programs of a variant (iptables-legacy) the usual ones, for everything inside.
func insteadOfIptables(opts options, variant string) error {
	folder := filepath.Join(opts.dir, programFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	suffix := strings.TrimPrefix(variant, "iptables")
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, tool := range []string{"", "-save", "-restore"} {
			path, err := exec.LookPath(family + suffix + tool)
			if err != nil {
				return err
			}
			if err := os.Symlink(path, filepath.Join(folder, family+tool)); err != nil {
				return err
			}
		}
	}
	return nil
}

// command runs a program that says nothing when all is well.
func command(program string, args ...string) error {
	output, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
