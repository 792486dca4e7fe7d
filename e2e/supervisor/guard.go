package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// guard runs one program as if it were that program (same output, same exit status, signals passed on), and ends it
// when stdin reaches its end. The program itself gets an empty stdin.
func guard(args []string) int {
	flags := flag.NewFlagSet("guard", flag.ExitOnError)
	pidFile := flags.String("pid-file", "", "write the program's process id to this `file`")
	grace := flags.Duration("grace", 20*time.Second, "kill the program this long after it was asked to end")
	_ = flags.Parse(args)
	if flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}

	// Before the start, so that no signal is lost in between.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	cmd := exec.Command(flags.Arg(0), flags.Args()[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	program, err := spawn(cmd)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e guard: cannot start %s: %v\n", flags.Arg(0), err)
		return 127
	}
	defer program.killGroup()
	if *pidFile != "" {
		if err := writePid(*pidFile, cmd.Process.Pid); err != nil {
			fmt.Fprintf(os.Stderr, "capf-e2e guard: cannot tell the process id: %v\n", err)
			program.kill()
			return 126
		}
	}

	abandoned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(abandoned)
	}()
	var tooLate <-chan time.Time
	for {
		select {
		case <-program.exited:
			return program.status()
		case s := <-signals:
			_ = program.signal(s.(syscall.Signal))
		case <-abandoned:
			abandoned = nil
			program.askToEnd()
			tooLate = time.After(*grace)
		case <-tooLate:
			program.kill()
		}
	}
}

// writePid makes the file appear with its content, never empty.
func writePid(path string, pid int) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(strconv.Itoa(pid)+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
