package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is a started program. It is killed by the kernel when this process dies.
type child struct {
	cmd *exec.Cmd
	// exited is closed when the program has ended and has been waited for.
	exited chan struct{}
}

// starts carries commands to the one thread that may start programs. Pdeathsig follows the *thread* that forked, so
// that thread must live as long as the process: it is locked and never returns.
var starts = func() chan func() {
	queue := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range queue {
			start()
		}
	}()
	return queue
}()

// spawn starts cmd in a process group of its own, so that a terminal's Ctrl-C reaches only this process, which
// decides in what order things end.
func spawn(cmd *exec.Cmd) (*child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error)
	starts <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, exited: make(chan struct{})}
	go func() {
		// The outcome is read from cmd.ProcessState.
		_ = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// pid is the process id, or 0 once the program has ended.
func (c *child) pid() int {
	if c == nil || !c.running() {
		return 0
	}
	return c.cmd.Process.Pid
}

func (c *child) running() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// signal goes through the process handle and so never to a stranger who inherited the number.
func (c *child) signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

// kill ends the program at once, stopped or not, and whatever it had started in its process group.
func (c *child) kill() {
	if c == nil {
		return
	}
	if c.running() {
		_ = c.signal(syscall.SIGKILL)
	}
	<-c.exited
	c.killGroup()
}

// killGroup ends what the program left behind in its process group. An empty group is no error.
func (c *child) killGroup() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// terminate asks the program to end and kills it when it has not done so in time.
func (c *child) terminate(grace time.Duration) {
	if c == nil || !c.running() {
		return
	}
	c.askToEnd()
	select {
	case <-c.exited:
	case <-time.After(grace):
	}
	c.kill()
}

// askToEnd also wakes a stopped program, which would otherwise never see the request.
func (c *child) askToEnd() {
	_ = c.signal(syscall.SIGTERM)
	_ = c.signal(syscall.SIGCONT)
}

// freeze stops the program and returns when the kernel says that it stands still.
func (c *child) freeze() error {
	if err := c.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for range 500 {
		if !c.running() {
			return fmt.Errorf("it ended instead")
		}
		if c.state() == "T" {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("it is still in state %q a second after SIGSTOP", c.state())
}

// state is the kernel's letter for what the process does (proc(5)): T is stopped.
func (c *child) state() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return ""
	}
	// The name before it stands in parentheses and may itself hold spaces and parentheses.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// status is the exit status as a shell reports it: 128 plus the signal for a program that died of one.
func (c *child) status() int {
	<-c.exited
	if ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return c.cmd.ProcessState.ExitCode()
}
