package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// insideMode is how this program calls itself as the first process of the node's namespaces.
const insideMode = "inside"

// namespaces are what a node has of its own. When the first process of the process namespace ends, for whatever
// reason, the kernel kills all others, and with the last of them go every mount, network interface and packet filter
// rule: that is the whole of the clean-up, and it cannot be interrupted.
const namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// node runs a control plane and a node in namespaces of their own until stdin reaches its end or a signal says so.
// Of what they make only files and control groups are the machine's; those are removed here. Commands and answers are
// those of up; one more answer is {"notHere": reasons}, where there can be no node, or when asked only about that.
func node(args []string) int {
	opts, err := parse("node", args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e node: %v\n%s\n", err, usage)
		return 2
	}
	reasons := obstacles(opts)
	if opts.check || len(reasons) > 0 {
		// As a list also when there are none.
		answer(map[string]any{"notHere": append([]string{}, reasons...)})
		return 0
	}
	ctx, cancel := untilSignal()
	defer cancel()
	lock, err := claim(opts.dir)
	if err != nil {
		return fail(err)
	}
	defer lock.Close()
	sweep(opts.dir)
	status := 0
	if err := enclose(ctx, opts); err != nil {
		status = fail(err)
	}
	if err := removeGroups(groupOf(opts.dir)); err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e node: cannot clean up: %v\n", err)
		status = 1
	}
	if err := leave(opts); err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e node: cannot clean up: %v\n", err)
		status = 1
	}
	return status
}

// enclose starts the first process of the namespaces and returns when it has ended, and everything in them with it.
// That process reads our stdin and answers on our stdout.
func enclose(ctx context.Context, opts options) error {
	if err := makeGroups(groupOf(opts.dir)); err != nil {
		return err
	}
	listener, err := listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port

	own, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(own, append([]string{insideMode, "--apiserver-port=" + strconv.Itoa(port)}, opts.again()...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	first, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("cannot start a process in namespaces of its own: %w", err)
	}
	defer first.kill()
	pid := cmd.Process.Pid
	if err := writePid(filepath.Join(opts.dir, "init.pid"), pid); err != nil {
		return err
	}
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("cannot open the node's network: %w", err)
	}
	defer network.Close()
	go passOn(listener, network, fmt.Sprintf("127.0.0.1:%d", port))

	select {
	case <-first.exited:
		if status := first.status(); status > 1 {
			return fmt.Errorf("the first process of the node ended with status %d", status)
		}
	case <-ctx.Done():
	}
	return nil
}

// again are the options as flags, for the process inside.
func (o options) again() []string {
	flags := []string{
		"--dir=" + o.dir, "--assets=" + o.assets, "--coredns=" + o.coredns, "--pod=" + o.pod, "--netpol=" + o.netpol,
		"--timeout=" + o.timeout.String(), fmt.Sprintf("--etcd-fsync=%t", o.etcdFsync),
	}
	for part, extras := range o.extra {
		for _, extra := range extras {
			flags = append(flags, "--extra="+part+"="+extra)
		}
	}
	return flags
}
