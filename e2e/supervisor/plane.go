package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The parts of a control plane in the order they start, by their names in commands, and the binary of each.
var (
	controlPlane = []string{"etcd", "apiserver", "kcm"}
	nodeParts    = []string{"scheduler", "containerd", "kubelet", "proxy", "netpol"}
	binaries     = map[string]string{
		"etcd": "etcd", "apiserver": "kube-apiserver", "kcm": "kube-controller-manager",
		"scheduler": "kube-scheduler", "containerd": "containerd", "kubelet": "kubelet", "proxy": "kube-proxy",
		"netpol": "capf-netpol",
	}
)

// order is what runs here.
func (o options) order() []string {
	if o.node {
		return slices.Concat(controlPlane, nodeParts)
	}
	return controlPlane
}

func (o options) partNames() string { return strings.Join(o.order(), ", ") }

// errPortTaken says that another program was faster to bind a port that had been free.
var errPortTaken = errors.New("port taken")

// plane is a control plane: its files, its ports, and its running parts by name.
type plane struct {
	opts  options
	creds *credentials
	ports ports
	parts map[string]*child
	// version is what the API server says it is.
	version string
}

// start returns when the control plane serves, or why it does not.
func (p *plane) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.opts.timeout)
	defer cancel()
	if err := os.MkdirAll(p.logs(), 0o700); err != nil {
		return err
	}
	var err error
	if p.creds, err = newCredentials(p.opts.dir); err != nil {
		return err
	}
	for range 5 {
		if err = p.attempt(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
		p.killAll()
	}
	return err
}

// attempt starts everything on fresh ports and fresh data.
func (p *plane) attempt(ctx context.Context) error {
	p.parts = map[string]*child{}
	if err := os.RemoveAll(p.data()); err != nil {
		return err
	}
	var err error
	if p.ports, err = freePorts(); err != nil {
		return err
	}
	if p.opts.node {
		// The same number inside as on the host, so that one kubeconfig serves on both sides.
		p.ports.apiserver = p.opts.apiserverPort
	}
	if err := p.creds.kubeconfigs(p.server()); err != nil {
		return err
	}
	for _, part := range p.opts.order() {
		if err := p.launch(part); err != nil {
			return err
		}
		if err := p.ready(ctx, part); err != nil {
			return err
		}
	}
	if p.opts.node {
		return p.clusterDNS(ctx)
	}
	return nil
}

// launch starts a part, with its output appended to its log.
func (p *plane) launch(part string) error {
	binary := p.binary(part)
	if err := p.prepare(part); err != nil {
		return err
	}
	log, err := os.OpenFile(p.log(part), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, append(p.flags(part), p.opts.extra[part]...)...)
	cmd.Dir = p.opts.dir
	// The caller's proxies, etcd settings and feature switches are none of the test's business.
	cmd.Env = []string{"HOME=" + p.opts.dir, "TMPDIR=" + p.opts.dir, "PATH=" + p.path()}
	cmd.Stdout, cmd.Stderr = log, log
	started, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", binary, err)
	}
	p.parts[part] = started
	return nil
}

// ready waits until the part does its work, asking every 25 ms.
func (p *plane) ready(ctx context.Context, part string) error {
	check := map[string]func(context.Context) error{
		"etcd": p.etcdReady, "apiserver": p.apiserverReady, "kcm": p.kcmReady,
		"scheduler": p.schedulerReady, "containerd": p.containerdReady, "kubelet": p.kubeletReady, "proxy": p.proxyReady,
		"netpol": p.netpolReady,
	}[part]
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %v\n%s", part, ctx.Err(), err, p.tail(part))
		case <-p.parts[part].exited:
			tail := p.tail(part)
			if strings.Contains(tail, "address already in use") {
				return fmt.Errorf("%s: %w\n%s", part, errPortTaken, tail)
			}
			return fmt.Errorf("%s ended with status %d before it was ready; the end of its log:\n%s", part, p.parts[part].status(), tail)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// obey does what one line of input says: a verb and a part.
func (p *plane) obey(ctx context.Context, line string) error {
	verb, part, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verb == "pids" {
		return nil
	}
	target, known := p.parts[part]
	if !known {
		return fmt.Errorf("no part %q in %q: there are %s", part, line, p.opts.partNames())
	}
	if verb != "restart" && !target.running() {
		return fmt.Errorf("cannot %s %s: it is not running", verb, part)
	}
	switch verb {
	case "kill":
		target.kill()
		return nil
	case "stop":
		return target.freeze()
	case "cont":
		return target.signal(syscall.SIGCONT)
	case "restart":
		// An API server sees off its watches and requests in two; etcd waits for its clients, in vain, and may be
		// killed without loss.
		target.terminate(5 * time.Second)
		return p.relaunch(ctx, part)
	default:
		return fmt.Errorf("no verb %q in %q: there are pids, kill, stop, cont, restart", verb, line)
	}
}

// relaunch starts a part on the ports and data it had, and waits until what stands on it works again, too.
func (p *plane) relaunch(ctx context.Context, part string) error {
	ctx, cancel := context.WithTimeout(ctx, p.opts.timeout)
	defer cancel()
	if err := p.launch(part); err != nil {
		return err
	}
	if err := p.ready(ctx, part); err != nil {
		return err
	}
	if part == "etcd" && p.parts["apiserver"].running() && p.parts["apiserver"].state() != "T" {
		return p.ready(ctx, "apiserver")
	}
	return nil
}

// killAll ends everything, first what stands on the others. Nothing needs to be saved.
func (p *plane) killAll() {
	for _, part := range slices.Backward(p.opts.order()) {
		p.parts[part].kill()
	}
}

// pids are the process ids by part, 0 for one that does not run.
func (p *plane) pids() map[string]int {
	pids := map[string]int{}
	for _, part := range p.opts.order() {
		pids[part] = p.hostPid(p.parts[part].pid())
	}
	return pids
}

// describe is what the caller gets to know about a control plane that is ready.
func (p *plane) describe() map[string]any {
	who := map[string]any{}
	for _, u := range p.creds.users {
		who[u.name] = map[string]any{"token": u.token, "kubeconfig": p.creds.path(u.kubeconfig)}
	}
	return map[string]any{
		"dir":        p.opts.dir,
		"logs":       p.logs(),
		"server":     p.server(),
		"version":    p.version,
		"kubeconfig": p.creds.path("kubeconfig"),
		"token":      p.creds.users[0].token,
		"caFile":     p.creds.path("ca.crt"),
		"users":      who,
		"etcd":       p.etcdURL(),
		"pids":       p.pids(),
	}
}

func (p *plane) data() string           { return filepath.Join(p.opts.dir, "etcd") }
func (p *plane) logs() string           { return filepath.Join(p.opts.dir, "logs") }
func (p *plane) log(part string) string { return filepath.Join(p.logs(), binaries[part]+".log") }

// tail is the end of a part's log.
func (p *plane) tail(part string) string {
	content, err := os.ReadFile(p.log(part))
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}
